"""Published partitions in both kinds of store, and ways to see what is read of them."""

from datetime import date, timedelta
from typing import Any

import pytest

from liveness_etl.load import publish
from liveness_etl.storage import Store
from liveness_etl.transform.tables import TABLES
from tests.landing_rows import DT, MORNING, image, land, row

DAYS = tuple(DT + timedelta(days=number) for number in range(3))


@pytest.fixture
def options(store: Store, request: pytest.FixtureRequest) -> dict[str, Any]:
    """What `connect` needs beside the output's address."""
    if not store.uri.startswith("s3://"):
        return {}
    pytest.importorskip("duckdb_extensions")
    return {"endpoint_url": request.getfixturevalue("s3_endpoint"), "region": "us-east-1"}


def publish_days(store: Store) -> None:
    """Three partitions of two sessions each; the ids are the same in all."""
    for number, dt in enumerate(DAYS):
        rows = [
            row(1, confidence=90.0 + number, images=[image(0)], created_at=MORNING, attributes={"plan": "free"}),
            row(2, feedback=[{"code": "A", "message": "m"}]),
        ]
        land(store, rows, dt)
        publish.publish_partition(store, dt)


def damage(store: Store, dt: date) -> None:
    """Replace a partition's tables by what is no Parquet: whoever opens one of them fails."""
    for table in TABLES:
        store.put(publish.table_path(table, dt), b"not Parquet at all")
