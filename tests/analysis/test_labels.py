"""What a labels file may hold, and what is said of one that cannot be used."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liveness_etl.analysis.labels import LABELS, read_labels
from liveness_etl.errors import UsageError

A, B, C = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "abc")


def write(folder: Path, text: str) -> str:
    """A CSV file of this text."""
    file = folder / "labels.csv"
    file.write_text(text, encoding="utf-8")
    return str(file)


def refusal(path: str) -> str:
    """The sentence that refuses a file, which holds none of its values."""
    with pytest.raises(UsageError) as refused:
        read_labels(path)
    said = str(refused.value)
    assert not any(value in said for value in (A, B, C, "secret"))
    return said


def test_csv_with_all_columns_in_any_order_is_read(tmp_path: Path) -> None:
    """Spaces and a byte order mark do not matter, ids are folded, an empty field is NULL, more columns are left out."""
    path = write(
        tmp_path,
        "\ufeffweight, label ,camera,session_id,pai_species,subject_id\n"
        f'2,attack,x, {A.upper()} ,"mask, silicone",p1\n'
        f"0.5,bona_fide,,{B},,\n",
    )
    table = read_labels(path)
    assert table.schema == LABELS
    assert table.to_pylist() == [
        {"session_id": A, "label": "attack", "pai_species": "mask, silicone", "subject_id": "p1", "weight": 2.0},
        {"session_id": B, "label": "bona_fide", "pai_species": None, "subject_id": None, "weight": 0.5},
    ]


def test_only_id_and_label_are_required(tmp_path: Path) -> None:
    """What is not there is NULL, and a file without lines is an empty table."""
    table = read_labels(write(tmp_path, f"session_id,label\n\n{A},attack\n"))
    assert table.to_pylist() == [
        {"session_id": A, "label": "attack", "pai_species": None, "subject_id": None, "weight": None}
    ]
    assert read_labels(write(tmp_path, "session_id,label\n")).num_rows == 0


def test_parquet_gives_the_same_as_csv(tmp_path: Path) -> None:
    """Whatever the types of its columns are: dictionaries, numbers for weights and subjects."""
    file = tmp_path / "labels.parquet"
    columns = {
        "session_id": pa.array([A, B], pa.large_string()),
        "label": pa.array(["attack", "bona_fide"]).dictionary_encode(),
        "subject_id": pa.array([7, None], pa.int32()),
        "weight": pa.array([0.1, 3.0]),
    }
    pq.write_table(pa.table(columns), file)
    table = read_labels(str(file))
    assert table.schema == LABELS
    assert table == read_labels(
        write(tmp_path, f"session_id,label,subject_id,weight\n{A},attack,7,0.1\n{B},bona_fide,,3")
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"session_id,label\n{A},attack\n\n{B},secret\n", "neither bona_fide nor attack: line 4"),
        (f"session_id,label\n{A},\n", "neither bona_fide nor attack: line 2"),
        (f"session_id,label\n,attack\n{A},attack\n", "no session_id: line 2"),
        (f"session_id,label\n{A},attack\n{B},attack\n{A.upper()},bona_fide\n", "an earlier line has: line 4"),
        (f"session_id,label,weight\n{A},attack,1\n{B},attack,-0.1\n", "0 or more: line 3"),
        (f"session_id,label,weight\n{A},attack,nan\n{B},attack,inf\n{C},attack,secret\n", "0 or more: line 2, 3, 4"),
        (f"session_id,label,weight\n{A},attack,1\n{B},attack,\n", "weigh all or none: line 3"),
        (f"session_id,label\n{A},attack,secret\n", "line 2 of the labels has another number of fields"),
        (f"session_id,kind\n{A},attack\n", "no column label"),
        ("", "no column session_id and none named label"),
        ("session_id,label,label\n", "several columns named label"),
        (f'session_id,label\n{A},"attack\n', "damaged"),
    ],
)
def test_file_that_cannot_be_used_is_refused_with_its_lines(tmp_path: Path, text: str, said: str) -> None:
    """Line numbers are those of an editor, the header is line 1, and no value is repeated."""
    assert said in refusal(write(tmp_path, text))


def test_of_many_bad_lines_five_are_named(tmp_path: Path) -> None:
    """The rest is counted."""
    lines = "".join(f"{digit * 8},secret\n" for digit in "0123456789")
    assert refusal(write(tmp_path, f"session_id,label\n{lines}")).endswith("line 2, 3, 4, 5, 6 and 5 more")


def test_rows_of_parquet_are_numbered_from_one(tmp_path: Path) -> None:
    """They have no header line."""
    file = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"session_id": [A, B], "label": ["attack", "secret"]}), file)
    assert refusal(str(file)).endswith("line 2")


def test_what_is_no_labels_file_is_named(tmp_path: Path) -> None:
    """Missing, a folder, another extension, damaged, not UTF-8, nested."""
    assert "no such labels file" in refusal(str(tmp_path / "none.csv"))
    (tmp_path / "folder.csv").mkdir()
    assert "folder" in refusal(str(tmp_path / "folder.csv"))
    assert ".csv or .parquet" in refusal(str(tmp_path / "labels.xlsx"))
    for name, content in (("broken.parquet", b"PAR1 secret"), ("latin.csv", b"session_id,label\n\xe9,attack\n")):
        (tmp_path / name).write_bytes(content)
        assert f"cannot read the labels file {name}" in refusal(str(tmp_path / name))
    nested = tmp_path / "nested.parquet"
    pq.write_table(pa.table({"session_id": [[A]], "label": ["attack"]}), nested)
    assert "column session_id of the labels file is list" in refusal(str(nested))
