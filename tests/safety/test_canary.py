"""Image bytes go into the image store and nowhere else: a pattern in every image, and a search of all that is written.

Every logger there is says all it has to say, the user's own choice included that this program would never make.
"""

import base64
import gzip
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liveness_etl.local import LocalConfig, LocalRekognition
from tests.running import ids, read_rows, wait_until, write_manifest
from tests.safety.canary import ENCODINGS, MARKER, search, sightings

FLOWS = Path(__file__).parents[2] / "flows"
IDS = ids(60)
ENCODED = base64.b64encode(MARKER)

# Answers that are broken in the middle of an image, errors that quote one, another session's images.
FAULTS: dict[str, Any] = {
    IDS[0]: {"body": b'{"SessionId": "x", "ReferenceImage": {"Bytes": "' + ENCODED * 20},
    IDS[1]: {"status": 400, "body": json.dumps({"__type": "SomeException", "message": (ENCODED * 20).decode()})},
    IDS[2]: {"status": 500, "body": MARKER * 20},
    IDS[3]: {"status": 400, "body": json.dumps({"__type": ENCODED.decode() * 9, "message": "no"})},
    IDS[4]: {"body": b"\xff\xd8\xff" + MARKER * 20},
    IDS[5]: {"body": json.dumps({"SessionId": IDS[5], "Status": "SUCCEEDED", "ReferenceImage": ENCODED.decode()})},
    IDS[6]: {"body": json.dumps({"SessionId": IDS[6], "Status": "SUCCEEDED", "AuditImages": [{"Bytes": 7}, "x"]})},
    IDS[7]: "wrong_id",
    IDS[8]: ["cut", "cut", None],
    IDS[9]: ["binary", "reset", None],
}

_LOUD = """
import logging, sys
logging.basicConfig(level=1, stream=sys.stdout, format="%(name)s %(message)s")
for name in ("botocore", "botocore.parsers", "botocore.endpoint", "boto3", "urllib3", "liveness_etl"):
    logging.getLogger(name).setLevel(1)
"""
RUN = f"{_LOUD}from liveness_etl.cli import main; main()"
BUG = f"""{_LOUD}
from liveness_etl.extract import pending
def answer_row(*arguments, **options):
    raise KeyError("a bug")
pending.answer_row = answer_row
from liveness_etl.cli import main; main()
"""


@pytest.fixture(scope="module")
def rekognition() -> Iterator[LocalRekognition]:
    """Answers with inline images, which hold the pattern, and with faults."""
    config = LocalConfig(
        answer_any=True,
        outcome_shares={"SUCCEEDED": 0.9, "FAILED": 0.1},
        image_mode="inline",
        image_marker=MARKER,
        image_bytes=1_000,
        faults=FAULTS,
    )
    with LocalRekognition(config) as running:
        yield running


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home, a temporary folder and a state folder that are searched too."""
    places = {"HOME": "home", "TMPDIR": "tmp", "XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache"}
    for place in places.values():
        (tmp_path / place).mkdir()
    return os.environ | {name: str(tmp_path / place) for name, place in places.items()}


def start(
    code: str,
    tmp_path: Path,
    rekognition: LocalRekognition,
    environment: dict[str, str],
    output: object,
    tps: int = 500,
) -> "subprocess.Popen[bytes]":
    """`liveness-etl run --verbose` as a process whose words go to files."""
    manifest = write_manifest(tmp_path / "manifest.csv", IDS)
    arguments = ["run", str(manifest), "--verbose", "--region", "us-east-1", "--output", str(output)]
    with (tmp_path / "stdout").open("wb") as out, (tmp_path / "stderr").open("wb") as err:
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments, "--endpoint-url", rekognition.endpoint_url, "--max-tps", str(tps)],
            stdout=out,
            stderr=err,
            env=environment | {"LIVENESS_ETL__SWEEP__RETRY_ATTEMPTS": "2"},
            cwd=tmp_path,
        )


def assert_loud(tmp_path: Path) -> None:
    """botocore and urllib3 did log at DEBUG, and the program its session ids."""
    said = (tmp_path / "stdout").read_text(errors="replace") + (tmp_path / "stderr").read_text(errors="replace")
    assert "botocore.auth" in said
    assert "urllib3.connectionpool" in said
    assert IDS[1] in said


# The search itself


def in_a_log(path: Path, disguise: bytes) -> None:
    path.with_suffix(".log").write_bytes(b"2026-03-01 DEBUG answer " + disguise + b"\n")


def in_a_column(path: Path, disguise: bytes) -> None:
    column = pa.array([None, b"rows before " * 99, disguise * 3])
    pq.write_table(pa.table({"error_message": column}), path.with_suffix(".parquet"), compression="zstd")


def in_metadata(path: Path, disguise: bytes) -> None:
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({"k": disguise}), path.with_suffix(".parquet"))


def in_a_database(path: Path, disguise: bytes) -> None:
    with closing(sqlite3.connect(path.with_suffix(".db"))) as database:
        database.execute("CREATE TABLE log (message TEXT, data BLOB)")
        database.execute("INSERT INTO log VALUES ('x', ?)", [b"y" * 9_000 + disguise])  # over several pages
        database.commit()


def packed(path: Path, disguise: bytes) -> None:
    path.with_suffix(".gz").write_bytes(gzip.compress(b"lines " * 999 + disguise))


@pytest.mark.parametrize("plant", [in_a_log, in_a_column, in_metadata, in_a_database, packed])
@pytest.mark.parametrize("disguise", ENCODINGS)
def test_search_finds_what_is_planted(plant: Callable[[Path, bytes], None], disguise: str, tmp_path: Path) -> None:
    """In every disguise and every kind of file; and nothing where nothing is."""
    plant(tmp_path / "clean", b"nobody")
    assert not search(tmp_path)
    plant(tmp_path / "planted", ENCODINGS[disguise])
    ((path, seen),) = search(tmp_path).items()
    assert path.startswith("planted")
    assert disguise in seen


@pytest.mark.parametrize("before", range(3))
def test_search_knows_base64_at_every_alignment(before: int) -> None:
    """Wherever in an image the pattern begins."""
    seen = sightings(base64.b64encode(b"x" * before + MARKER + b"yy"))
    assert [name for name in seen if name.startswith("base64 +")]


# A run


@pytest.mark.parametrize("mode", ["store", "discard", "uploads fail"])
def test_run_keeps_image_bytes_in_the_image_store(
    mode: str, tmp_path: Path, rekognition: LocalRekognition, environment: dict[str, str]
) -> None:
    """Every file, the logs of all libraries and the terminal, with broken answers and with uploads that fail."""
    output = tmp_path / "output"
    if mode == "discard":
        environment["LIVENESS_ETL__IMAGES__MODE"] = "discard"
    elif mode == "uploads fail":
        (tmp_path / "no-folder").write_text("")
        environment["LIVENESS_ETL__IMAGES__URI"] = str(tmp_path / "no-folder" / "images")
    process = start(RUN, tmp_path, rekognition, environment, output)
    assert process.wait(120) == 3, (tmp_path / "stderr").read_text()[-2_000:]  # some answers stay broken
    assert_loud(tmp_path)
    images = [row for row in read_rows(output, "bounding_boxes") if row["image_sha256"]]
    assert len(images) > 50
    assert len(read_rows(output, "sessions")) == len(IDS)
    stored = {path: path.read_bytes() for path in (output / "images").rglob("*") if path.is_file()}
    if mode == "store":
        hashes = {hashlib.sha256(content).hexdigest() for content in stored.values() if MARKER in content}
        assert hashes == {row["image_sha256"] for row in images}
    else:
        assert not stored
    assert search(tmp_path, besides=[output / "images"]) == {}


def test_run_to_s3_keeps_image_bytes_in_the_image_store(
    tmp_path: Path, rekognition: LocalRekognition, environment: dict[str, str], s3: Any, bucket: str, s3_endpoint: str
) -> None:
    """Requests carry images too, and the SDK would log them."""
    environment["LIVENESS_ETL__OUTPUT__ENDPOINT_URL"] = s3_endpoint
    process = start(RUN, tmp_path, rekognition, environment, f"s3://{bucket}/output")
    assert process.wait(120) == 3, (tmp_path / "stderr").read_text()[-2_000:]
    assert_loud(tmp_path)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page["Contents"]:
            copy = tmp_path / "bucket" / entry["Key"]
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())
    assert search(tmp_path / "bucket" / "output" / "images")
    assert search(tmp_path, besides=[tmp_path / "bucket" / "output" / "images"]) == {}


def test_bug_shows_no_local_variables(
    tmp_path: Path, rekognition: LocalRekognition, environment: dict[str, str]
) -> None:
    """A traceback is printed for a bug alone, and the answer is a variable of the frames that it names."""
    process = start(BUG, tmp_path, rekognition, environment, tmp_path / "output")
    assert process.wait(120) == 1
    assert "KeyError: 'a bug'" in (tmp_path / "stderr").read_text()
    assert search(tmp_path, besides=[tmp_path / "output" / "images"]) == {}


def test_rescued_answers_hold_no_image_bytes(
    tmp_path: Path, rekognition: LocalRekognition, environment: dict[str, str]
) -> None:
    """What an output that cannot be written makes the program keep on this machine."""
    output = tmp_path / "output"
    process = start(RUN, tmp_path, rekognition, environment, output, tps=20)
    wait_until(lambda: (output / "images").exists())
    (output / "landing").write_text("no folder")
    wait_until(lambda: len(list((output / "images").rglob("*.*"))) > 3)
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    rescued = list((tmp_path / "state").rglob("*.parquet"))
    assert rescued, (tmp_path / "stderr").read_text()[-2_000:]
    assert any(
        image["image_sha256"] for path in rescued for row in pq.read_table(path).to_pylist() for image in row["images"]
    )
    assert search(tmp_path, besides=[output / "images"]) == {}


# Under Prefect

_FLOW = """
import logging, sys
sys.path.insert(0, sys.argv[1])
import nightly_script
from nightly import nightly
from liveness_etl.extract import rekognition
nightly_script._connect(False)
def run(output):
    given = {"manifest": sys.argv[2], "endpoint_url": sys.argv[4], "region": "us-east-1", "max_tps": 500}
    return nightly(output=sys.argv[3] + output, **given, return_state=True)
assert run("").name == "Failed"
def parse(session_id, answer):
    content = answer.get("ReferenceImage", answer)
    raise KeyError("a bug")
rekognition.parse_result = parse
assert run("-of-the-bug").is_failed()
"""


@pytest.mark.slow
def test_prefect_gets_no_image_bytes(
    tmp_path: Path, rekognition: LocalRekognition, environment: dict[str, str]
) -> None:
    """Its database (logs, states, artifacts, parameters), results and terminal, when it is told to persist results and
    to store the logs of botocore and urllib3 at DEBUG; for a run with broken answers, and for one that meets a bug."""
    manifest = write_manifest(tmp_path / "manifest.csv", IDS)
    output = tmp_path / "output"
    settings = {
        "HOME": str(tmp_path / "prefect"),
        "LOGGING_LEVEL": "DEBUG",
        "LOGGING_ROOT_LEVEL": "DEBUG",
        "LOGGING_EXTRA_LOGGERS": "botocore,botocore.parsers,botocore.endpoint,urllib3,liveness_etl",
        "LOGGING_HANDLERS_CONSOLE_LEVEL": "DEBUG",
        "RESULTS_PERSIST_BY_DEFAULT": "true",
        "LOCAL_STORAGE_PATH": str(tmp_path / "prefect" / "storage"),
    }
    kept = {name: value for name, value in environment.items() if not name.startswith("PREFECT_")}
    with (tmp_path / "stdout").open("wb") as out, (tmp_path / "stderr").open("wb") as err:
        subprocess.run(
            [sys.executable, "-c", _FLOW, FLOWS, manifest, output, rekognition.endpoint_url],
            stdout=out,
            stderr=err,
            env=kept
            | {f"PREFECT_{name}": value for name, value in settings.items()}
            | {"LIVENESS_ETL__SWEEP__RETRY_ATTEMPTS": "2"},
            check=True,
            timeout=240,
        )
    with closing(sqlite3.connect(tmp_path / "prefect" / "prefect.db")) as database:
        names = {row[0] for row in database.execute("SELECT DISTINCT name FROM log")}
        assert database.execute("SELECT count(*) FROM artifact").fetchone()[0] >= 1
    assert any(name.startswith("botocore.") for name in names)
    said = (tmp_path / "stdout").read_text(errors="replace") + (tmp_path / "stderr").read_text(errors="replace")
    assert "botocore.auth" in said
    assert search(output / "images")
    assert search(tmp_path, besides=[output / "images", tmp_path / "output-of-the-bug" / "images"]) == {}
