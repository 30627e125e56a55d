"""The tables of an S3 output as Arrow datasets, which DuckDB scans with its filters and columns pushed down.

DuckDB's own httpfs takes an endpoint out of a query's `s3://…?s3_endpoint=…`, credentials out of its CREATE SECRET,
and `..` in a path, whatever `allowed_directories` says. Handed datasets, DuckDB needs no way out at all.
"""

from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as fs

from liveness_etl.storage import Entry, Store


def open_dataset(store: Store, entries: list[Entry], schema: pa.Schema) -> ds.Dataset:
    """The Parquet files of one table, with `dt` out of their paths as a date. They are opened when they are read."""
    partitioning = ds.partitioning(pa.schema([("dt", pa.date32())]), flavor="hive")
    return _Current(
        [
            _FORMAT.make_fragment(entry.path, fs.PyFileSystem(_Objects(store)), partitioning.parse(entry.path))
            for entry in entries
        ],
        schema.append(pa.field("dt", pa.date32())),
        _FORMAT,
        fs.PyFileSystem(_Objects(store)),
    )


class _Current(ds.FileSystemDataset):  # type: ignore[misc]  # pyarrow has no types
    """Files as they are when they are read, each time.

    Arrow keeps the footers that it has read, and with an old one it would read the pages of a file that a publish has
    replaced since. DuckDB scans through `scanner`.
    """

    def scanner(self, **options: Any) -> ds.Scanner:
        return super().scanner(**options, cache_metadata=False)


_FORMAT = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True))


class _Objects(fs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """A store, as far as Arrow has to see of it: files that are opened for reading."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get_type_name(self) -> str:
        return "liveness-etl"

    def normalize_path(self, path: str) -> str:
        return path

    def open_input_file(self, path: str) -> pa.NativeFile:
        return self._store.open(path)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return self._store.open(path)

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        found = [self._store.head(path) for path in paths]
        return [
            fs.FileInfo(path, fs.FileType.NotFound)
            if entry is None
            else fs.FileInfo(path, fs.FileType.File, size=entry.size)
            for path, entry in zip(paths, found, strict=True)
        ]

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("these files are read, one by one, and no more")

    get_file_info_selector = create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse
    delete_file = move = copy_file = open_output_stream = open_append_stream = _refuse
