"""Landing rows for tests: whole ones from few words, and the ways to land and read them."""

import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from liveness_etl.load import landing, publish
from liveness_etl.storage import Store
from liveness_etl.transform import tables

DT = date(2026, 1, 1)
NEXT_DAY = date(2026, 1, 2)
MORNING = datetime(2026, 1, 1, 8, tzinfo=UTC)


def session_id(number: int) -> str:
    """A session id; a greater number sorts later."""
    return str(uuid.UUID(int=number))


def row(number: int = 0, status: str | None = "SUCCEEDED", **columns: Any) -> dict[str, Any]:
    """A landing row of the session with this number; `columns` take the place of what is plain."""
    plain: dict[str, Any] = dict.fromkeys(tables.LANDING.names)
    plain |= {"session_id": session_id(number), "source": "default", "region": "us-east-1", "status": status}
    plain |= {"images": [], "feedback": [], "fetched_at": MORNING, "attempts": 1, "run_id": "run-1"}
    assert not columns.keys() - plain.keys()
    return plain | columns


def image(index: int = 0, kind: str = "audit", **members: Any) -> dict[str, Any]:
    """One image of a landing row."""
    return dict.fromkeys(tables.IMAGE.names) | {"image_type": kind, "image_index": index} | members


def land(store: Store, rows: Sequence[landing.Row], dt: date = DT, name: str | None = None) -> str:
    """Land the rows as one part; returns its name."""
    name = name or f"part-{uuid.uuid4().hex[:8]}"
    landing.append_part(store, dt, name, landing.part_bytes(rows))
    return name


def landed_ids(store: Store, dt: date = DT) -> list[str]:
    """The session ids of all landed rows, sorted, repetitions included."""
    parts = landing.read_landed(store, dt).parts
    return sorted(value for batch in landing.scan(store, parts, ["session_id"]) for value in batch[0].to_pylist())


def table(store: Store, name: str, dt: date = DT) -> pa.Table:
    """A partition's published table, as it stands in its file."""
    with store.open(publish.table_path(name, dt)) as file:
        return pq.read_table(file)


def sessions(store: Store, dt: date = DT) -> list[dict[str, Any]]:
    """The rows of the published `sessions`."""
    found: list[dict[str, Any]] = table(store, "sessions", dt).to_pylist()
    return found
