"""The printed DDL, executed by Spark with Hive's metastore over a real output: the nearest to Athena that runs here.

Two things are not as in Athena: a LOCATION is a folder, and partitions are added by MSCK, since Spark knows no
projection. Views are Athena's own SQL, which Spark does not read.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liveness_etl import pipeline
from liveness_etl.load.athena import comment_of, hive_type
from liveness_etl.local import LocalConfig, LocalRekognition
from liveness_etl.transform.tables import SCHEMAS
from tests.load.cataloguing import OUTPUT, statements
from tests.processes import need_programs
from tests.running import ids, make_job

pytestmark = pytest.mark.slow

ANSWERS = LocalConfig(
    answer_any=True,
    image_mode="mixed",
    image_bytes=300,
    outcome_shares={"SUCCEEDED": 0.7, "FAILED": 0.1, "CREATED": 0.1, "SessionNotFoundException": 0.1},
)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, isolated_environment: None) -> Path:
    """A run's output: two days, attributes, images, feedback, and a line that was rejected."""
    folder = tmp_path_factory.mktemp("catalog")
    manifest = folder / "manifest.csv"
    lines = [
        f"{session_id},2026-03-0{1 + number % 2}T12:00:00.{number:03d}Z,user-{number},{'free' if number % 3 else ''}"
        for number, session_id in enumerate(ids(40))
    ]
    manifest.write_text("\n".join(["session_id,created_at,user,plan", *lines, "no id,,,"]) + "\n")
    with LocalRekognition(ANSWERS) as rekognition:
        job = make_job(manifest, folder / "output", rekognition.endpoint_url, manifest__attributes=("user", "plan"))
        pipeline.run(job)
    return folder / "output"


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory, output: Path) -> Iterator[Any]:
    """A session in which the printed tables are made, with a metastore of its own (Derby) and UTC."""
    need_programs("java")
    from pyspark.sql import SparkSession

    folder = tmp_path_factory.mktemp("spark")
    options = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": f"-Dderby.system.home={folder} -Duser.timezone=Asia/Tokyo",
        "spark.driver.host": "127.0.0.1",
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={folder}/metastore;create=true",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.variable.substitute": "false",  # ${dt} is Athena's, not a variable of Spark
        "spark.sql.warehouse.dir": f"{folder}/warehouse",
        "spark.ui.enabled": "false",
    }
    builder = SparkSession.builder.master("local[1]").enableHiveSupport()
    session = builder.config(map=options).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    for statement in statements():
        if not statement.startswith("CREATE OR REPLACE VIEW"):
            session.sql(statement.replace(f"{OUTPUT}/", f"file:{output}/"))
    for name in SCHEMAS:
        session.sql(f"MSCK REPAIR TABLE liveness.{name}")
    yield session
    gateway = session.sparkContext._gateway
    session.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()  # the JVM, with its gigabyte, would else live as long as the tests
    assert gateway.proc.wait(60) is not None


@pytest.mark.parametrize("name", SCHEMAS)
def test_spark_makes_the_table_and_reads_what_the_files_hold(name: str, spark: Any, output: Path) -> None:
    """Columns, types and comments of the DDL; then every value of every row, times to the millisecond in UTC."""
    wanted = [(field.name, hive_type(field.type), comment_of(field)) for field in SCHEMAS[name]]
    described = [tuple(row) for row in spark.sql(f"DESCRIBE liveness.{name}").collect()]
    assert described[: len(wanted)] == wanted
    assert described[len(wanted)][:2] == ("dt", "date")

    held = pq.read_table(output / name, schema=SCHEMAS[name].append(pa.field("dt", pa.date32())))
    read = spark.sql(f"SELECT * FROM liveness.{name}").toArrow()
    assert sorted(rows_of(read), key=repr) == sorted(rows_of(held), key=repr)
    assert held.num_rows > 0


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """Rows with times as UTC and maps as dicts."""
    return table.to_pylist(maps_as_pydicts="strict")


def test_partition_column_is_a_date_that_prunes(spark: Any) -> None:
    """A filter on it is one on folders."""
    rows = spark.sql("SELECT count(*) AS n FROM liveness.sessions WHERE dt = DATE '2026-03-02'").collect()
    assert rows[0]["n"] == 20
    plan = spark.sql("SELECT session_id FROM liveness.sessions WHERE dt = DATE '2026-03-02'")
    assert re.search(r"PartitionFilters: \[[^\]]*dt", plan._jdf.queryExecution().toString())
