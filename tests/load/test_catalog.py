"""`catalog sync` against Glue: what it makes, what it leaves alone, and what it refuses. moto is the Glue."""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from liveness_etl.errors import Conflict, StoreError, UsageError
from liveness_etl.load.athena import VERSION_PROPERTY
from liveness_etl.load.catalog import Change, find_changes, glue_client, make_change
from tests.http_services import Service, serving
from tests.load.cataloguing import inputs

ALL = ("sessions", "challenges", "bounding_boxes", "feedback", "runs", "rejects", "results", "confidence_daily")
READS = {"GetDatabase", "GetTable"}


@pytest.fixture
def glue(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The program's own client; `called` of the tests is what it sends."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_GLUE", moto_endpoint)
    client = glue_client()
    yield client
    client.close()


@pytest.fixture
def called(glue: Any) -> list[tuple[str, Any]]:
    """Operation and table of every call, reads left out."""
    calls: list[tuple[str, Any]] = []

    def note(params: Mapping[str, Any], model: Any, **_: object) -> None:
        if model.name not in READS:
            calls.append((model.name, json.loads(params["body"]).get("TableInput", {}).get("Name")))

    glue.meta.events.register("before-call.glue", note)
    return calls


@pytest.fixture
def database() -> str:
    """The name of a database that is not there yet."""
    return f"liveness_{uuid.uuid4().hex[:8]}"


def sync(glue: Any, database: str, *attributes: str, **options: str) -> list[str]:
    """Make Glue what it should be; the lines that say what differed."""
    changes = find_changes(glue, database, inputs(*attributes, database=database, **options))
    for change in changes:
        make_change(glue, database, change)
    return [line for change in changes for line in change.lines]


def table(glue: Any, database: str, name: str = "sessions") -> dict[str, Any]:
    """A table as Glue has it."""
    found: dict[str, Any] = glue.get_table(DatabaseName=database, Name=name)["Table"]
    return found


def put(glue: Any, database: str, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Somebody else changes a table."""
    wanted = {one["Name"]: one for one in inputs(database=database)}
    kept = {key: value for key, value in table(glue, database, name).items() if key in {*wanted[name], "Owner"}}
    change(kept)
    glue.update_table(DatabaseName=database, TableInput=kept)


def test_first_sync_makes_everything_and_the_second_writes_nothing(
    glue: Any, database: str, called: list[tuple[str, Any]]
) -> None:
    """Tables before the views over them."""
    assert sync(glue, database) == [
        f"create database {database}",
        *(f"create table {database}.{name}" for name in ALL[:6]),
        *(f"create view {database}.{name}" for name in ALL[6:]),
    ]
    assert called == [("CreateDatabase", None), *(("CreateTable", name) for name in ALL)]
    called.clear()
    assert sync(glue, database) == []
    assert called == []
    for wanted in inputs(database=database):
        found = table(glue, database, wanted["Name"])
        assert {key: found[key] for key in wanted} == wanted


def test_finding_what_differs_writes_nothing(glue: Any, database: str, called: list[tuple[str, Any]]) -> None:
    """Which is all that a dry run does, with no database as with an old one."""
    assert find_changes(glue, database, inputs(database=database))
    sync(glue, database)
    called.clear()
    assert find_changes(glue, database, inputs("plan", database=database))
    assert called == []


def test_only_what_differs_is_changed_and_what_others_have_set_stays(
    glue: Any, database: str, called: list[tuple[str, Any]]
) -> None:
    """A property and a comment of ours are put right; their properties, owner and column parameters are kept."""
    sync(glue, database)

    def meddle(found: dict[str, Any]) -> None:
        found["Owner"] = "data-team"
        found["Parameters"] |= {"team": "fraud", "projection.dt.range": "2023-01-01,NOW"}
        first, second, *_ = found["StorageDescriptor"]["Columns"]
        first["Parameters"] = {"pii": "yes"}
        second["Comment"] = "?"
        found["StorageDescriptor"]["SerdeInfo"]["Parameters"]["theirs"] = "1"

    put(glue, database, "sessions", meddle)
    called.clear()
    assert sync(glue, database) == [
        f"update {database}.sessions: Parameters.projection.dt.range '2023-01-01,NOW' -> '2023-01-01,NOW+1DAYS'",
        f"update {database}.sessions: comment of source '?' -> 'name of the account and region it was asked of'",
    ]
    assert called == [("UpdateTable", "sessions")]
    found = table(glue, database)
    assert (found["Owner"], found["Parameters"]["team"]) == ("data-team", "fraud")
    assert found["StorageDescriptor"]["Columns"][0]["Parameters"] == {"pii": "yes"}
    assert found["StorageDescriptor"]["SerdeInfo"]["Parameters"] == {"serialization.format": "1", "theirs": "1"}
    assert sync(glue, database) == []


def test_new_columns_are_added(glue: Any, database: str, called: list[tuple[str, Any]]) -> None:
    """To a view whose configuration has one more attribute, and to a table of an older version."""
    sync(glue, database)
    put(glue, database, "runs", lambda found: found["StorageDescriptor"]["Columns"].pop())
    called.clear()
    assert sync(glue, database, "plan") == [
        f"update {database}.runs: add column unmodelled_members map<string,bigint>",
        f"update {database}.results: add column attr_plan string",
        f"update {database}.results: its SQL",
    ]
    assert called == [("UpdateTable", "runs"), ("UpdateTable", "results")]
    assert sync(glue, database, "plan") == []


def test_output_that_moved_takes_the_tables_with_it(glue: Any, database: str) -> None:
    """Place and template; the views stay as they are."""
    sync(glue, database)
    lines = sync(glue, database, output="s3://lake/elsewhere")
    assert len(lines) == 12
    assert {line.split(":")[0].rpartition(".")[2] for line in lines} == set(ALL[:6])
    assert table(glue, database)["StorageDescriptor"]["Location"] == "s3://lake/elsewhere/sessions/"


def add_column(found: dict[str, Any]) -> None:
    found["StorageDescriptor"]["Columns"].append({"Name": "theirs", "Type": "string"})


def change_type(found: dict[str, Any]) -> None:
    found["StorageDescriptor"]["Columns"][5]["Type"] = "float"


def change_partition(found: dict[str, Any]) -> None:
    found["PartitionKeys"] = [{"Name": "dt", "Type": "string"}]


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a column would go": (add_column, "column theirs, which would be dropped"),
    "a type would change": (change_type, "confidence is float, which would become double"),
    "the partition's type would change": (change_partition, "dt is string, which would become date"),
    "somebody else's table": (lambda found: found.update(Parameters={}), "this program has not made it"),
    "a view in a table's place": (lambda found: found.update(TableType="VIRTUAL_VIEW"), "has not made it"),
    "a newer version's table": (lambda found: found["Parameters"].update({VERSION_PROPERTY: "10"}), "newer version"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusal_is_one_sentence_and_changes_no_table_at_all(
    case: str, glue: Any, database: str, called: list[tuple[str, Any]]
) -> None:
    """Not even the ones that come before it."""
    change, words = REFUSED[case]
    sync(glue, database)
    put(glue, database, "sessions", change)
    glue.delete_table(DatabaseName=database, Name="challenges")
    called.clear()
    with pytest.raises(UsageError, match=words) as refused:
        sync(glue, database)
    assert "nothing was changed" in str(refused.value)
    assert called == []


def test_attribute_that_left_the_configuration_is_not_dropped_from_the_view(glue: Any, database: str) -> None:
    """Somebody's query may use it."""
    sync(glue, database, "plan")
    with pytest.raises(UsageError, match="attr_plan, which would be dropped"):
        sync(glue, database)


def test_what_the_printed_ddl_made_is_taken_over(glue: Any, database: str) -> None:
    """Athena adds parameters to tables, has no place for a description, and gives a view no mark of ours."""
    sync(glue, database)

    def of_athena(found: dict[str, Any]) -> None:
        found["Description"] = ""
        found["Parameters"] |= {"transient_lastDdlTime": "1795376717", "comment": "Face Liveness"}

    def view_of_athena(found: dict[str, Any]) -> None:
        found["Parameters"] = {"presto_view": "true", "comment": "Presto View"}
        found["ViewOriginalText"] = "/* Presto View: e30= */"
        for column in found["StorageDescriptor"]["Columns"]:
            del column["Comment"]

    put(glue, database, "feedback", of_athena)
    put(glue, database, "results", view_of_athena)
    assert f"update {database}.results: its SQL" in sync(glue, database)
    assert table(glue, database, "feedback")["Parameters"]["transient_lastDdlTime"] == "1795376717"
    assert sync(glue, database) == []


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, int], Any]]:
    """Makes a client of a Glue that says no in AWS's form: with this code and this HTTP status."""
    answer: dict[str, Any] = {}

    class Answering(Service):
        def reply(self) -> None:
            content = json.dumps({"__type": answer["code"], "Message": "arn:aws:iam::123456789012:user/x may\nnot"})
            self.answer(answer["status"], content.encode())

    with serving(Answering) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_GLUE", url)
        clients = []

        def client(code: str, status: int) -> Any:
            answer.update(code=code, status=status)
            clients.append(glue_client())
            return clients[-1]

        yield client
        for one in clients:
            one.close()


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("AccessDeniedException", StoreError, "need glue:GetDatabase, and a grant of Lake Formation"),
        ("UnrecognizedClientException", StoreError, "refuses the credentials"),
        ("ConcurrentModificationException", Conflict, "run catalog sync again"),
        ("GlueEncryptionException", StoreError, "GlueEncryptionException"),
    ],
)
def test_what_glue_says_no_with_is_one_sentence(
    code: str, kind: type[StoreError], words: str, refusing: Callable[[str, int], Any]
) -> None:
    """With the permission that is missing, and without account numbers."""
    with pytest.raises(kind, match=words) as said:
        find_changes(refusing(code, 400), "liveness", inputs())
    assert "123456789012" not in str(said.value)
    assert "\n" not in str(said.value)


def test_missing_permission_names_the_call_that_was_denied(refusing: Callable[[str, int], Any]) -> None:
    """Not only the first one."""
    glue = refusing("AccessDeniedException", 400)
    wanted = inputs()[0]
    for change, action in (
        (Change([]), "CreateDatabase"),
        (Change([], wanted), "CreateTable"),
        (Change([], wanted, exists=True), "UpdateTable"),
    ):
        with pytest.raises(StoreError, match=f"need glue:{action},"):
            make_change(glue, "liveness", change)


def test_region_that_is_missing_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is called."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(UsageError, match="region"):
        glue_client()


def test_address_outside_aws_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule of every other client of this program."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_GLUE", "http://glue.example.com")
    with pytest.raises(UsageError, match="https"):
        glue_client()
