"""DuckDB's own S3: where it is found, how it is reached, what it cannot read, and what is said when it fails."""

import logging
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import botocore.session
import duckdb
import pytest

import liveness_etl
from liveness_etl.analysis import httpfs, objects
from liveness_etl.analysis.query import connect, fetch
from liveness_etl.errors import StoreError, Unavailable
from liveness_etl.load import publish
from liveness_etl.storage import Store
from liveness_etl.storage_s3 import S3Store
from liveness_etl.storage_s3_access import Unusual, find_access
from liveness_etl.transform.tables import TABLES
from tests import ceph
from tests.analysis.conftest import DAYS, publish_days
from tests.counting_proxy import counting
from tests.extract.test_connection import relaying
from tests.landing_rows import DT, land, row
from tests.webhook_receiver import make_certificates

COUNT = "SELECT count(*), count(DISTINCT dt), min(outcome) FROM results"
ALL = [(2 * len(DAYS), len(DAYS), "SUCCEEDED")]


@pytest.fixture
def output(s3_store: S3Store, s3_endpoint: str) -> dict[str, Any]:
    """Three published days on S3: arguments of `fetch`."""
    publish_days(s3_store)
    return {"output": s3_store.uri, "endpoint_url": s3_endpoint, "region": "us-east-1"}


@pytest.fixture(autouse=True)
def few_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is tried again at once."""
    monkeypatch.setitem(httpfs._SETTINGS, "http_retry_wait_ms", 1)


@pytest.fixture
def without_arrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads a table through Arrow fails."""
    monkeypatch.setattr(objects, "open_dataset", None)


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """What a server needs to speak TLS as `localhost`, by the word of an authority that AWS_CA_BUNDLE names."""
    file, server_file = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_file)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(file))
    return context


def test_it_is_loaded_out_of_its_wheel(tmp_path: Path) -> None:
    """Nothing is copied to the home folder, where DuckDB installs, and nothing is fetched from there or elsewhere."""
    code = (
        "import duckdb; from liveness_etl.analysis import httpfs; from liveness_etl.analysis.httpfs import _load\n"
        "from types import SimpleNamespace\n"
        "connection = duckdb.connect()\n"
        "_load(connection, httpfs.extension_file(), SimpleNamespace(ca_file='', proxy_url=None))\n"
        'found = connection.execute("SELECT loaded, installed FROM duckdb_extensions() '
        "WHERE extension_name = 'httpfs'\").fetchall()\n"
        "assert found == [(True, False)], found\n"
    )
    environment = {"HOME": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("without_arrow")
def test_its_tables_are_read_by_duckdb_itself(output: dict[str, Any]) -> None:
    """`runs` and `rejects` are not: there are none here."""
    assert fetch(sql=COUNT, **output)[1] == ALL


@pytest.mark.parametrize("missing", ["wheel", "version"])
def test_without_it_s3_is_read_through_arrow_and_the_log_says_so_once(
    output: dict[str, Any], missing: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not installed, or for another version of DuckDB."""
    if missing == "wheel":
        monkeypatch.setitem(sys.modules, "duckdb_extension_httpfs", None)
    else:
        monkeypatch.setattr(duckdb, "__version__", "1.5.4")
    httpfs._say_once.cache_clear()
    caplog.set_level(logging.INFO, "liveness_etl")
    for _ in range(2):
        assert fetch(sql=COUNT, **output)[1] == ALL
    said = "S3 is read without DuckDB's httpfs, which takes longer: pip install 'liveness-etl[s3-query]' brings it"
    assert caplog.messages == [said]


@pytest.mark.parametrize(
    "prefix",
    [
        "out put",
        "süß/çé",
        "a'b",
        "what?s3_endpoint=127.0.0.1:9&x=",
        "a*b",
        "a[b]c",
        "{a}",
        "50%25",
        "a#b",
        "a+b",
        "a&b",
    ],
)
@pytest.mark.usefixtures("without_arrow")
def test_prefix_may_be_of_any_characters(s3: Any, bucket: str, s3_endpoint: str, prefix: str) -> None:
    """None of them is a pattern, an escape or a parameter."""
    store = S3Store(f"s3://{bucket}/{prefix}", s3)
    other = S3Store(f"s3://{bucket}/aXb", s3)  # what a pattern would match
    for written, rows in ((store, [row(1), row(2)]), (other, [row(5)])):
        land(written, rows)
        publish.publish_partition(written, DT)
    query = f"SELECT count(*) FROM results WHERE dt = '{DT}'"
    assert fetch(store.uri, query, endpoint_url=s3_endpoint, region="us-east-1")[1] == [(2,)]


@pytest.mark.usefixtures("without_arrow")
def test_objects_under_a_kms_key_are_read(s3: Any, s3_endpoint: str, s3_store: S3Store) -> None:
    """S3 decrypts them for whoever may use the key."""
    store = S3Store(s3_store.uri, s3, ceph.KMS_KEY_ID)
    publish_days(store)
    assert fetch(store.uri, COUNT, endpoint_url=s3_endpoint, region="us-east-1")[1] == ALL


@pytest.mark.usefixtures("without_arrow")
def test_an_authority_of_the_users_own_is_trusted_and_no_other(
    output: dict[str, Any], trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As botocore takes it; httpfs by itself would have trusted anybody."""
    with counting(output["endpoint_url"], trusted) as secure:
        assert fetch(sql=COUNT, **output | {"endpoint_url": secure.url})[1] == ALL
        with connect(**output | {"endpoint_url": secure.url}) as connection:
            assert connection.execute(COUNT).fetchall() == ALL
        monkeypatch.setattr("liveness_etl.storage_s3_access._ca_file", lambda _: str(botocore_authorities()))
        secure.start()
        with pytest.raises(Unavailable, match=r"S3 did not answer \(SSL "):
            fetch(sql=COUNT, **output | {"endpoint_url": secure.url})
        assert not [request for request in secure.seen if request.endswith(".parquet")]


def botocore_authorities() -> Path:
    """Those that botocore trusts where it is told nothing."""
    return Path(botocore.session.__file__).parent / "cacert.pem"


@pytest.mark.usefixtures("without_arrow")
def test_https_goes_through_the_proxy_of_the_environment_and_loopback_does_not(
    output: dict[str, Any], trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As botocore's own calls do; whatever HTTP_PROXY says, plain http takes none."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    seen: list[bytes] = []
    with (
        counting(output["endpoint_url"], trusted) as secure,
        relaying(int(secure.url.rpartition(":")[2]), seen=seen) as proxy,
    ):
        with monkeypatch.context() as proxied:
            proxied.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
            with connect(**output | {"endpoint_url": secure.url}) as connection:
                listed = len(seen)
                assert connection.execute(COUNT).fetchall() == ALL
            assert len(seen) > listed
        assert fetch(sql=COUNT, **output)[1] == ALL


def test_bucket_that_only_botocore_can_reach_is_read_through_arrow(
    output: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log says why."""
    httpfs._say_once.cache_clear()
    caplog.set_level(logging.INFO, "liveness_etl")

    def find_none(*_: object) -> None:
        raise Unusual("the proxy wants TLS or a password")

    monkeypatch.setattr("liveness_etl.storage_s3.find_access", find_none)
    assert fetch(sql=COUNT, **output)[1] == ALL
    assert caplog.messages[-1].endswith("takes longer: the proxy wants TLS or a password")


def client(endpoint_url: str, **options: Any) -> SimpleNamespace:
    """As much of a boto3 client as is looked at."""
    config = SimpleNamespace(s3=options or None)
    return SimpleNamespace(meta=SimpleNamespace(endpoint_url=endpoint_url, region_name="eu-central-1", config=config))


@pytest.mark.parametrize(
    ("endpoint_url", "bucket", "options", "is_path_style"),
    [
        ("https://s3.eu-central-1.amazonaws.com", "lake", {}, False),
        ("https://s3.amazonaws.com", "lake", {}, False),
        ("https://s3-fips.us-east-1.amazonaws.com", "lake", {}, False),
        ("https://s3.dualstack.eu-central-1.amazonaws.com", "lake", {}, False),
        ("https://s3.cn-north-1.amazonaws.com.cn", "lake", {}, False),
        ("https://s3.eu-central-1.amazonaws.com", "my.lake", {}, True),
        ("https://s3.eu-central-1.amazonaws.com", "lake", {"addressing_style": "path"}, True),
        ("https://minio.example:9000", "lake", {}, True),
        ("https://minio.example:9000", "lake", {"addressing_style": "virtual"}, False),
        ("http://127.0.0.1:9000", "lake", {}, True),
    ],
)
def test_bucket_stands_in_the_path_where_botocore_puts_it_there(
    endpoint_url: str, bucket: str, options: dict[str, Any], is_path_style: bool
) -> None:
    """A certificate of AWS's holds for one more label before the host."""
    found = find_access(client(endpoint_url, **options), botocore.session.Session(), bucket, None)
    assert (found.is_path_style, found.is_secure) == (is_path_style, endpoint_url.startswith("https"))
    assert found.host == endpoint_url.rpartition("/")[2]
    assert "testing" not in repr(found).replace("key_id='testing'", "")


@pytest.mark.parametrize(
    ("bucket", "region", "environment"),
    [
        ("arn:aws:s3:eu-central-1:123456789012:accesspoint/lake", None, {}),
        ("lake--euc1-az1--x-s3", None, {}),
        ("lake", "us-east-1", {}),
        ("lake", None, {"HTTPS_PROXY": "http://somebody:secret@127.0.0.1:9"}),
        ("lake", None, {"HTTPS_PROXY": "https://127.0.0.1:9"}),
        ("lake", None, {"AWS_CA_BUNDLE": "/"}),
    ],
)
def test_what_httpfs_cannot_do_as_botocore_does_is_left_to_botocore(
    bucket: str, region: str | None, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Access points, S3 Express, another region, a proxy's password, a folder of authorities."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Unusual) as raised:
        find_access(client("https://s3.eu-central-1.amazonaws.com"), botocore.session.Session(), bucket, region)
    assert "secret" not in str(raised.value)


def test_object_that_is_gone_is_one_sentence(output: dict[str, Any], s3_store: Store) -> None:
    """An erasure took it between the listing and the query."""
    with connect(**output) as connection:
        s3_store.delete([publish.table_path("sessions", DAYS[1])])
        with pytest.raises(duckdb.Error) as raised:
            connection.execute(COUNT)
    told = httpfs.read_error(raised.value)
    assert str(told) == (
        f"cannot read the tables: {s3_store.uri_of(publish.table_path('sessions', DAYS[1]))}: a publish or an erasure "
        "replaced it meanwhile, so run this again"
    )


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (400, StoreError, "S3 refuses (HTTP 400): these credentials need s3:GetObject there; where they have expired"),
        (403, StoreError, "S3 refuses (HTTP 403): these credentials need s3:GetObject there; where they have expired"),
        (416, StoreError, "a publish or an erasure replaced it meanwhile, so run this again"),
        (429, Unavailable, "S3 is too busy, or fails (HTTP 429); the same again may work"),
        (503, Unavailable, "S3 is too busy, or fails (HTTP 503); the same again may work"),
    ],
)
def test_what_s3_answers_instead_of_an_object_is_one_sentence(
    output: dict[str, Any], status: int, kind: type[StoreError], said: str
) -> None:
    """What it was asked with is not in it."""
    with counting(output["endpoint_url"]) as server:
        server.status_of_objects = status
        with pytest.raises(StoreError) as raised:
            fetch(sql=COUNT, **output | {"endpoint_url": server.url})
    assert type(raised.value) is kind
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "testing" not in str(raised.value)


def test_service_that_is_gone_is_one_sentence(output: dict[str, Any]) -> None:
    """It went after the listing."""
    with counting(output["endpoint_url"]) as server:
        connection = connect(**output | {"endpoint_url": server.url})
    with connection, pytest.raises(duckdb.Error) as raised:
        connection.execute(COUNT)
    told = httpfs.read_error(raised.value)
    assert isinstance(told, Unavailable)
    assert str(told).startswith("cannot read the tables: S3 did not answer (")
    assert str(told).endswith("); check the network and the endpoint")


def test_a_year_of_partitions_is_not_opened_to_connect(s3: Any, bucket: str, s3_endpoint: str) -> None:
    """Views over it cost a listing; a day's results cost that day's files."""
    store = S3Store(f"s3://{bucket}/output", s3)
    days = [DT + timedelta(days=number) for number in range(365)]
    land(store, [row(1), row(2)])
    publish.publish_partition(store, DT)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda at: store.put(publish.table_path(*at), b"no Parquet"), product(TABLES, days[1:])))
    with counting(s3_endpoint) as server, connect(store.uri, endpoint_url=server.url, region="us-east-1") as connection:
        assert not [request for request in server.seen if request.endswith(".parquet")]
        server.start()
        assert connection.execute(f"SELECT count(*) FROM results WHERE dt = '{DT}'").fetchall() == [(2,)]
        assert {unquote(request).partition("/dt=")[2] for request in server.seen} == {f"{DT}/part-00000.parquet"}


def test_the_package_says_how_it_reads_s3(output: dict[str, Any]) -> None:
    """`read_results` and `connect` go the same way."""
    with liveness_etl.connect(**output) as connection:
        assert connection.execute(COUNT).fetchall() == ALL
        plan = connection.execute("EXPLAIN FROM sessions WHERE session_id = 'the-id'").fetchall()[0][1]
    assert "READ_PARQUET" in plan
    assert "session_id='the-id'" in plan
    assert len(liveness_etl.read_results(**output)) == ALL[0][0]
