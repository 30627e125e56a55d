"""DuckDB's own S3, httpfs, out of its wheel: for the files of one output, and for nothing else.

It takes an endpoint and credentials out of an `s3://` address, out of CREATE SECRET and out of the environment, so
what is closed here stays closed only with `connect`'s lock on the configuration, its list of files, and with `fetch`,
which lets nobody create a secret.
"""

import functools
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import duckdb

from liveness_etl.engine import sql_text
from liveness_etl.errors import StoreError, Unavailable
from liveness_etl.storage import Store

if TYPE_CHECKING:
    from liveness_etl.storage_s3_access import Access

_log = logging.getLogger(__name__)

INSTALL: Final = "pip install 'liveness-etl[s3-query]'"

_CANNOT: Final = "cannot read the tables: "

# They wait for S3 most of the time: with one for each of two cores, many small files took longer than through Arrow.
_THREADS: Final = 16

_SETTINGS: Final[dict[str, Any]] = {
    "s3_url_compatibility_mode": True,  # an address is a key: no pattern, and no endpoint or credentials behind a `?`
    "merge_http_secret_into_s3_request": False,
    # curl takes other proxies than botocore, and makes an error of an object's content where its ETag has changed.
    "httpfs_client_implementation": "httplib",
    "enable_server_cert_verification": True,
    # Three seconds of pauses in all: as long as a file that was replaced keeps one waiting for the sentence on it.
    "http_retries": 4,
    "http_retry_wait_ms": 200,
    "http_retry_backoff": 2,
    "http_timeout": 10,
}


def extension_file() -> Path | None:
    """httpfs for this very version of DuckDB, where its wheel is installed. Nothing is ever downloaded for it."""
    try:
        import duckdb_extension_httpfs
    except ImportError:
        return None
    folder = Path(duckdb_extension_httpfs.__file__).parent
    file = folder / "extensions" / f"v{duckdb.__version__}" / "httpfs.duckdb_extension"
    return file if file.is_file() else None


def open_s3(connection: duckdb.DuckDBPyConnection, store: Store) -> bool:
    """Let DuckDB read by itself what was listed on S3, if it can; where it cannot, the log says why, once."""
    if not store.uri.startswith("s3://"):
        return False
    from liveness_etl.storage_s3 import S3Store  # with botocore, which a folder does without
    from liveness_etl.storage_s3_access import Unusual

    assert isinstance(store, S3Store)
    file = extension_file()
    if file is None:
        _say_once(f"{INSTALL} brings it")
        return False
    try:
        access = store.access()
    except Unusual as error:
        _say_once(str(error))
        return False
    _load(connection, file, access)
    _sign(connection, access, store.uri_of(""))
    return True


@functools.cache
def _say_once(why: str) -> None:
    _log.info("S3 is read without DuckDB's httpfs, which takes longer: %s", why)


def _load(connection: duckdb.DuckDBPyConnection, file: Path, access: "Access") -> None:
    connection.execute(f"LOAD {sql_text(str(file))}")
    names = connection.execute("SELECT name FROM duckdb_settings() WHERE starts_with(name, 's3_')").fetchall()
    for (name,) in names:  # httpfs has put AWS_SECRET_ACCESS_KEY and others there, for every query to read
        connection.execute(f"RESET {name}")
    settings = _SETTINGS | {"ca_cert_file": access.ca_file, "http_proxy": access.proxy_url or ""}
    settings["threads"] = max(_THREADS, os.cpu_count() or 1)
    for name, value in settings.items():
        connection.execute(f"SET {name} = $1", [value])


def _sign(connection: duckdb.DuckDBPyConnection, access: "Access", scope: str) -> None:
    options = {
        "KEY_ID": access.key_id,
        "SECRET": access.secret,
        "REGION": access.region,
        "ENDPOINT": access.host,
        "URL_STYLE": "path" if access.is_path_style else "vhost",
        "SCOPE": scope,
    }
    if access.token:
        options["SESSION_TOKEN"] = access.token
    given = ", ".join(f"{name} {sql_text(value)}" for name, value in options.items())
    connection.execute(f"CREATE SECRET output (TYPE s3, PROVIDER config, USE_SSL {access.is_secure}, {given})")


def read_error(error: duckdb.Error) -> StoreError | None:
    """An error of httpfs's as one sentence; None for any other."""
    said = str(error)
    if not isinstance(error, duckdb.IOException) and "HTTP Error:" not in said:
        return None
    status = re.search(r"\bHTTP (\d{3})\b", said)
    file = re.search(r"s3://[^'\"]+", said)
    if "ETag on reading file" in said or (status and status[1] in ("404", "416")):
        what = file[0] if file else "a file"
        return StoreError(f"{_CANNOT}{what}: a publish or an erasure replaced it meanwhile, so run this again")
    if status and status[1] in ("400", "401", "403"):
        return StoreError(
            f"{_CANNOT}S3 refuses (HTTP {status[1]}): these credentials need s3:GetObject there; where they have "
            "expired since the connection was made, make a new one"
        )
    if status:
        return Unavailable(f"{_CANNOT}S3 is too busy, or fails (HTTP {status[1]}); the same again may work")
    if failed := re.search(r"Error: (.+?) error for HTTP [A-Z]+ to '", said):
        return Unavailable(f"{_CANNOT}S3 did not answer ({failed[1]}); check the network and the endpoint")
    return None
