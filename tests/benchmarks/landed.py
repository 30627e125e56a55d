"""A landing partition of any size, made by DuckDB: rows as a sweep would have landed them, three images each."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from liveness_etl.load.landing import VERSION_KEY, folder_of
from liveness_etl.transform.tables import CONTRACT_VERSION, LANDING

_ROWS = """
WITH numbered AS (SELECT range AS n, md5(range::VARCHAR) AS hex FROM range($first, $last)),
ids AS (
    SELECT n, hash(n) AS h,
        concat_ws('-', hex[1:8], hex[9:12], hex[13:16], hex[17:20], hex[21:32]) AS session_id
    FROM numbered
)
SELECT session_id, 'default' AS source, 'us-east-1' AS region,
    if(h % 20 = 0, 'FAILED', 'SUCCEEDED') AS status,
    if(h % 20 = 0, NULL, 100 - (h % 10007) / 200.0) AS confidence,
    {'type': if(h % 5 = 0, 'FaceMovementChallenge', 'FaceMovementAndLightChallenge'), 'version': '2.0.0'} AS challenge,
    'android' AS sdk_type,
    [{
        'image_type': if(i = 0, 'reference', 'audit'), 'image_index': if(i = 0, 0, i - 1),
        'box': {'left': (h % 997) / 997.0, 'top': (h % 991) / 991.0, 'width': 0.3 + (h % 89) / 500.0, 'height': 0.5},
        's3_bucket': 'liveness-images', 's3_name': concat('sessions/', session_id, '/', i, '.jpg'), 's3_version': NULL,
        'image_uri': concat('s3://liveness-images/sessions/', session_id, '/', i, '.jpg'),
        'image_sha256': NULL, 'image_size_bytes': NULL
    } for i in range(3)] AS images,
    if(h % 7 = 0, [{'code': 'FACE_TOO_FAR', 'message': 'Move closer'}], []) AS feedback,
    TIMESTAMPTZ '2026-01-31 00:00:00Z' + to_milliseconds((h % 86400000)::BIGINT) AS created_at,
    TIMESTAMPTZ '2026-01-31 00:01:00Z' + to_milliseconds((h % 86400000)::BIGINT) AS fetched_at,
    1 AS attempts, NULL AS error_code, NULL AS error_message, MAP {} AS attributes, 'run' AS run_id
FROM ids
"""


def land_rows(output: Path, dt: date, rows: int, rows_per_part: int) -> None:
    """Write `rows` rows in parts of `rows_per_part` below `output`."""
    folder = output / folder_of(dt)
    folder.mkdir(parents=True)
    schema = LANDING.with_metadata({VERSION_KEY: CONTRACT_VERSION})
    for number, table in enumerate(_tables(rows, rows_per_part)):
        pq.write_table(table.cast(schema), folder / f"run-default-0-{number:06d}.parquet", compression="zstd")


def _tables(rows: int, rows_per_part: int) -> Iterator[pa.Table]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for first in range(0, rows, rows_per_part):
            bounds = {"first": first, "last": min(rows, first + rows_per_part)}
            yield connection.execute(_ROWS, bounds).to_arrow_table()
