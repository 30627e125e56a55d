"""Published tables from a few words per session, for reports whose figures a test can count by itself."""

import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from liveness_etl.load import records
from liveness_etl.load.publish import table_path
from liveness_etl.storage import open_store
from liveness_etl.transform.tables import RUNS, SCHEMAS

DAY = date(2026, 3, 10)


def session(number: int, dt: date = DAY, **columns: Any) -> dict[str, Any]:
    """A session that SUCCEEDED with 99; besides columns of `sessions`: dt, challenge, feedback, boxes."""
    noon = datetime(dt.year, dt.month, dt.day, 12, tzinfo=UTC)
    plain: dict[str, Any] = {
        "session_id": str(uuid.UUID(int=number)),
        "source": "default",
        "region": "us-east-1",
        "status": "SUCCEEDED",
        "confidence": 99.0,
        "sdk_type": "AmplifyWeb",
        "created_at": noon + timedelta(seconds=number % 3600),
        "fetched_at": noon + timedelta(seconds=number % 3600 + 30),
        "attempts": 1,
        "error_code": None,
        "error_message": None,
        "attributes": [],
        "run_id": "run-1",
        "dt": dt,
        "challenge": ("FaceMovementChallenge", "1.0.0"),
        "feedback": (),
        "boxes": (("reference", 0.3, 0.2, 0.4, 0.5),),
    }
    made = plain | columns
    return made | {"outcome": made["status"] or made["error_code"]}


def write_tables(output: Path, sessions: Sequence[dict[str, Any]]) -> None:
    """The four tables of these sessions, a file for each day."""
    for dt in {made["dt"] for made in sessions}:
        of_day = sorted((made for made in sessions if made["dt"] == dt), key=lambda made: made["session_id"])
        rows: dict[str, list[dict[str, Any]]] = {
            "sessions": of_day,
            "challenges": [],
            "bounding_boxes": [],
            "feedback": [],
        }
        for made in of_day:
            key = {"session_id": made["session_id"]}
            if made["challenge"]:
                rows["challenges"].append(key | dict(zip(("type", "version"), made["challenge"], strict=True)))
            for place, code in enumerate(made["feedback"]):
                rows["feedback"].append(key | {"feedback_index": place, "code": code, "message": code})
            for place, (kind, *box) in enumerate(made["boxes"]):
                sides = dict(zip(("box_left", "box_top", "box_width", "box_height"), box, strict=True))
                rows["bounding_boxes"].append(
                    key | {"image_type": kind, "image_index": place, "image_uri": "s3://b/n"} | sides
                )
        for name, found in rows.items():
            schema = SCHEMAS[name]
            path = output / table_path(name, dt)
            path.parent.mkdir(parents=True, exist_ok=True)
            plain = [{column: row.get(column) for column in schema.names} for row in found]
            pq.write_table(pa.Table.from_pylist(plain, schema=schema), path)


def write_run(output: Path, run_id: str, started_at: datetime, **columns: Any) -> None:
    """A record of a run that completed, unless `columns` say otherwise."""
    plain = {field.name: 0 for field in RUNS if field.type == pa.int64()}
    plain |= {"run_id": run_id, "flow_run_id": None, "started_at": started_at, "finished_at": started_at}
    plain |= {"command": "run", "manifest_uri": "m.csv", "manifest_sha256": None, "version": "0", "by_outcome": []}
    records.write_run(open_store(str(output)), plain | {"completed": True} | columns)
