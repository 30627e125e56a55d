"""Glue's tables brought to what they should be: what differs is found first, then changed, and nothing else is.

The one module that calls Glue. A column that analysts may use is never dropped and never changes its type, and a table
that somebody else made under the same name is left alone.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import boto3
import botocore.config
import botocore.exceptions

from liveness_etl.aws import make_client
from liveness_etl.errors import Conflict, StoreError, Unavailable, UsageError
from liveness_etl.load.athena import VERSION_PROPERTY
from liveness_etl.load.glue_tables import TableInput
from liveness_etl.masking import masked
from liveness_etl.transform.tables import CONTRACT_VERSION

# GetTable gives more than UpdateTable takes; what is not given to UpdateTable is gone.
_KEPT: Final = (
    "Name",
    "Description",
    "Owner",
    "LastAccessTime",
    "LastAnalyzedTime",
    "Retention",
    "StorageDescriptor",
    "PartitionKeys",
    "ViewOriginalText",
    "ViewExpandedText",
    "TableType",
    "Parameters",
    "TargetTable",
)
_BAD_CREDENTIALS: Final = {
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
}
_OVERTAKEN: Final = {"AlreadyExistsException", "ConcurrentModificationException", "EntityNotFoundException"}


@dataclass(frozen=True)
class Change:
    """A database or table to create (`table` None: the database), or a table to update; `lines` say what differs."""

    lines: Sequence[str]
    table: TableInput | None = None
    exists: bool = False


def glue_client(region: str | None = None, profile: str | None = None) -> Any:
    """A boto3 Glue client from boto3's own credential chain. Raises UsageError for no region or an unknown profile."""
    config = botocore.config.Config(
        retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=5, read_timeout=20
    )
    try:
        session = boto3.session.Session(profile_name=profile, region_name=region)
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise UsageError(f"cannot set up Glue: {masked(str(error))}") from None
    return make_client(session, "glue", config)


def find_changes(glue: Any, database: str, wanted: Sequence[TableInput]) -> Sequence[Change]:
    """What `make_change` is to do, in this order, and nothing where all is as wanted. Only reads.

    Raises UsageError where a change would drop a column, change a type or take somebody else's table, StoreError.
    """
    if not _has_database(glue, database):
        return [Change([f"create database {database}"]), *(_creation(database, table) for table in wanted)]
    changes: list[Change] = []
    refusals: list[str] = []
    for table in wanted:
        found = _table(glue, database, table["Name"])
        if found is None:
            changes.append(_creation(database, table))
            continue
        refusals += _refusals(found, table)
        lines = [f"update {database}.{table['Name']}: {line}" for line in _differences(found, table)]
        if lines:
            kept = {key: found[key] for key in _KEPT if key in found}
            changes.append(Change(lines, _merged(kept, table), exists=True))
    if refusals:
        raise UsageError(f"{'; '.join(refusals)}: nothing was changed; drop it in Glue first if this is meant")
    return changes


def make_change(glue: Any, database: str, change: Change) -> None:
    """Create or update. Raises StoreError; what was done before stays, and the next sync does the rest."""
    if change.table is None:
        with _translated("glue:CreateDatabase", database):
            glue.create_database(DatabaseInput={"Name": database, "Description": "Face Liveness results"})
        return
    action = "UpdateTable" if change.exists else "CreateTable"
    with _translated(f"glue:{action}", f"{database}.{change.table['Name']}"):
        call = glue.update_table if change.exists else glue.create_table
        call(DatabaseName=database, TableInput=change.table)


def _has_database(glue: Any, database: str) -> bool:
    with _translated("glue:GetDatabase", database):
        try:
            glue.get_database(Name=database)
        except glue.exceptions.EntityNotFoundException:
            return False
    return True


def _table(glue: Any, database: str, name: str) -> Mapping[str, Any] | None:
    with _translated("glue:GetTable", f"{database}.{name}"):
        try:
            found: Mapping[str, Any] = glue.get_table(DatabaseName=database, Name=name)["Table"]
        except glue.exceptions.EntityNotFoundException:
            return None
    return found


def _creation(database: str, table: TableInput) -> Change:
    kind = "view" if table["TableType"] == "VIRTUAL_VIEW" else "table"
    return Change([f"create {kind} {database}.{table['Name']}"], table)


# --- what differs ---


def _refusals(found: Mapping[str, Any], wanted: TableInput) -> Iterator[str]:
    name, is_view = wanted["Name"], wanted["TableType"] == "VIRTUAL_VIEW"
    version = found.get("Parameters", {}).get(VERSION_PROPERTY)
    if (found.get("TableType") == "VIRTUAL_VIEW") != is_view or (version is None and not is_view):
        # A view made by `catalog ddl` has no mark: Athena's CREATE VIEW takes no properties. Its columns must do.
        yield f"{name} is there already, and this program has not made it (see --database)"
        return
    if version is not None and not (version.isdigit() and int(version) <= int(CONTRACT_VERSION)):
        yield f"{name} was made by a newer version of this program (contract {version})"
    types = {column["Name"]: column["Type"] for column in _columns(wanted)}
    for column in _columns(found):
        kind = types.get(column["Name"])
        if kind is None:
            yield f"{name} has a column {column['Name']}, which would be dropped"
        elif kind != _plain(column["Type"]):
            yield f"{name}.{column['Name']} is {column['Type']}, which would become {kind}"


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """A line for each value in `wanted` that is another or missing in `found`; what else `found` has is not ours."""
    for key, value in wanted.items():
        before = found.get(key)
        here = f"{path}{key}"
        if key in ("Columns", "PartitionKeys"):
            yield from _column_differences(before or [], value)
        elif isinstance(value, Mapping):
            yield from _differences(before or {}, value, f"{here}.")
        elif (before or "") != value:
            yield "its SQL" if key == "ViewOriginalText" else f"{here} {before!r} -> {value!r}"


def _column_differences(found: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, str]]) -> Iterator[str]:
    before = {column["Name"]: column for column in found}
    for column in wanted:
        name, comment = column["Name"], column["Comment"]
        if name not in before:
            yield f"add column {name} {column['Type']}"
        elif before[name].get("Comment", "") != comment:
            yield f"comment of {name} {before[name].get('Comment', '')!r} -> {comment!r}"
    names = [column["Name"] for column in wanted]
    if set(names) == before.keys() and names != list(before):
        yield "order of columns"


def _merged(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`found` with all of `wanted` in it: what others have set beside it stays."""
    merged = dict(found)
    for key, value in wanted.items():
        if key in ("Columns", "PartitionKeys"):
            before = {column["Name"]: column for column in found.get(key, ())}
            merged[key] = [{**before.get(column["Name"], {}), **column} for column in value]
        else:
            merged[key] = _merged(found.get(key, {}), value) if isinstance(value, Mapping) else value
    return merged


def _columns(table: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [*table.get("StorageDescriptor", {}).get("Columns", ()), *table.get("PartitionKeys", ())]


def _plain(kind: str) -> str:
    return kind.lower().replace(" ", "")


@contextlib.contextmanager
def _translated(action: str, what: str) -> Iterator[None]:
    """botocore's errors as StoreError in one sentence, with the permission that is missing."""
    try:
        yield
    except botocore.exceptions.ClientError as error:
        said = error.response.get("Error", {})
        code = str(said.get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in {"AccessDeniedException", "AccessDenied"}:
            reason = f"access denied; these credentials need {action}, and a grant of Lake Formation where that governs"
        elif code in _BAD_CREDENTIALS:
            reason = f"Glue refuses the credentials ({code}); check AWS_PROFILE, or the access key and its secret"
        elif code in _OVERTAKEN:
            raise Conflict(f"{what} was changed in Glue by somebody else just now: run catalog sync again") from None
        else:
            reason = " ".join(masked(f"{code} {said.get('Message', '')}").split())[:300]
        kind = Unavailable if status >= 500 or "Throttl" in code else StoreError
        raise kind(f"{action} of {what} failed: {reason}") from None
    except (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError) as error:
        reason = f"Glue did not answer ({type(error).__name__}); check the network and the region"
        raise Unavailable(f"{action} of {what} failed: {reason}") from None
    except botocore.exceptions.BotoCoreError as error:
        raise StoreError(f"{action} of {what} failed: {masked(str(error))}") from None
