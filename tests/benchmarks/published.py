"""Published tables of any size, made by DuckDB without a sweep: sessions of many days whose scores drift a little."""

from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from liveness_etl.load.publish import table_path
from liveness_etl.transform.tables import SCHEMAS

_MADE = """
CREATE OR REPLACE TEMP TABLE made AS
WITH numbered AS (SELECT range AS n, md5(range::VARCHAR) AS hex, hash(range) AS h FROM range($first, $last)),
drawn AS (
    SELECT concat_ws('-', hex[1:8], hex[9:12], hex[13:16], hex[17:20], hex[21:32]) AS session_id, h,
        (h % 1000003) / 1000003.0 AS u, (h // 1009 % 999983) / 999983.0 AS v, (h // 31 % 100) AS kind,
        (h // 77 % 1000) AS fate, (h // 13 % 100) AS sdk
    FROM numbered
)
SELECT session_id, h,
    CASE WHEN fate < 2 THEN NULL WHEN fate < 12 THEN 'CREATED' WHEN fate < 32 THEN 'FAILED'
        WHEN fate < 40 THEN 'EXPIRED' ELSE 'SUCCEEDED' END AS status,
    CASE WHEN status <> 'SUCCEEDED' OR status IS NULL THEN NULL
        WHEN u < 0.06 THEN 100 * pow(v, 3)
        ELSE greatest(0, 100 + ln(1 - 0.9999999 * v) * if(kind < 45, 0.4, 0.9) * $drift) END AS confidence,
    if(kind < 80, 'FaceMovementAndLightChallenge', 'FaceMovementChallenge') AS type,
    CASE WHEN kind < 45 THEN '2.0.0' WHEN kind < 70 THEN '1.5.0' ELSE '1.0.0' END AS version,
    CASE WHEN sdk < 50 THEN 'AmplifyWeb' WHEN sdk < 80 THEN 'AmplifyAndroid' WHEN sdk < 98 THEN 'AmplifyIOS' END
        AS sdk_type,
    $dt::DATE + to_milliseconds((h % 86400000)::BIGINT) AS created_at
FROM drawn ORDER BY session_id
"""

_TABLES = {
    "sessions": """
        SELECT session_id, if(h % 4 = 0, 'us', 'eu') AS source, if(h % 4 = 0, 'us-east-1', 'eu-west-1') AS region,
            coalesce(status, 'AccessDeniedException') AS outcome, status, confidence, sdk_type,
            created_at::TIMESTAMPTZ AS created_at, (created_at + INTERVAL 40 SECOND)::TIMESTAMPTZ AS fetched_at,
            1 AS attempts, if(status IS NULL, 'AccessDeniedException', NULL) AS error_code,
            NULL AS error_message, MAP {'user_id': 'user-' || (h // 7 % $people)} AS attributes, $run AS run_id
        FROM made ORDER BY session_id""",
    "challenges": """
        SELECT session_id, type, version FROM made WHERE status IN ('SUCCEEDED', 'FAILED') ORDER BY session_id""",
    "bounding_boxes": """
        SELECT session_id, if(i = 0, 'reference', 'audit') AS image_type, if(i = 0, 0, i - 1) AS image_index,
            0.15 + (h // (i + 3) % 997) / 3000.0 AS box_left, -0.02 + (h // (i + 5) % 991) / 3000.0 AS box_top,
            0.35 + (h % 89) / 400.0 AS box_width, 0.5 + (h % 83) / 300.0 AS box_height,
            'faces' AS s3_bucket, concat(session_id, '/', i, '.jpg') AS s3_name, NULL AS s3_version,
            concat('s3://faces/', session_id, '/', i, '.jpg') AS image_uri, NULL AS image_sha256,
            NULL AS image_size_bytes
        FROM made, range(3) AS images(i) WHERE status = 'SUCCEEDED' AND (i > 0 OR h % 211 > 0) ORDER BY session_id""",
    "feedback": """
        SELECT session_id, 0 AS feedback_index,
            ['FACE_NOT_ALIGNED', 'LOW_LIGHTING_DETECTED', 'EYES_CLOSED_DETECTED'][1 + (h // 7 % 3)::INT] AS code,
            'Words of the service.' AS message
        FROM made WHERE status = 'SUCCEEDED' AND (confidence < 90 OR h % 11 = 0) ORDER BY session_id""",
}


def write_tables(output: Path, last_day: date, days: int, sessions: int) -> None:
    """Write the four tables and a record of a run for each of `days` days, `sessions` rows of sessions in all."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for number in range(days):
            dt = last_day - timedelta(days=days - 1 - number)
            bounds = {"first": sessions * number // days, "last": sessions * (number + 1) // days}
            drift = 1.0 if number < days - 2 else 1.6
            connection.execute(_MADE, bounds | {"dt": dt.isoformat(), "drift": drift})
            for name, sql in _TABLES.items():
                values = {"run": f"run-{dt}", "people": max(1, sessions // 3)} if name == "sessions" else {}
                _write(output / table_path(name, dt), name, connection.execute(sql, values))


def _write(path: Path, name: str, result: duckdb.DuckDBPyConnection) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, SCHEMAS[name], compression="zstd") as writer:
        for batch in result.to_arrow_reader(131_072):
            writer.write_batch(batch.cast(SCHEMAS[name]))
