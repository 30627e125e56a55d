"""Everything that can be configured, validated once.

Four layers, the later ones win: the defaults below, a TOML file, the environment, the command line. A value
that cannot be raises a ConfigError that names the layer it stands in and its dotted key, never the value.
What each key means stands in config/default.toml; a test keeps that file and the models here in step.

In the environment a key is called LIVENESS_ETL__SECTION__KEY or LIVENESS_ETL__SOURCES__NAME__KEY, and read as
pydantic-settings does: in lower case, so that LIVENESS_ETL__SOURCES__PROD_EU__REGION belongs to
[sources.prod_eu]. A list is written with commas; an empty variable counts as unset.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from liveness_etl.errors import ConfigError
from liveness_etl.setting_types import (
    AccountId,
    BucketNameList,
    Count,
    EndpointUrl,
    InFlight,
    Integer,
    MemorySize,
    Percent,
    Rate,
    RoleArn,
    Seconds,
    Share,
    ShareOrZero,
    SourceName,
    Text,
    TextList,
    TimeZoneName,
    TopicArn,
    WebhookUrl,
)

ENV_PREFIX = "LIVENESS_ETL__"


class Section(BaseModel):
    """A table of the configuration: read-only, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Manifest(Section):
    uri: Text | None = None
    attributes: TextList = ()
    session_id_column: Text = "session_id"
    created_at_column: Text = "created_at"
    source_column: Text = "source"
    lookback_days: Annotated[Integer, Field(ge=0, le=3650)] = 2
    max_bytes: Count = 4 * 1024**3
    max_line_bytes: Count = 65_536


class Output(Section):
    uri: Text | None = None
    kms_key_id: Text | None = None
    endpoint_url: EndpointUrl | None = None
    region: Text | None = None
    profile: Text | None = None
    expected_bucket_owner: AccountId | None = None
    retention_days: Count | None = None


class Images(Section):
    mode: Literal["store", "discard"] = "store"
    uri: Text | None = None
    kms_key_id: Text | None = None
    source_buckets: BucketNameList = ()
    retention_days: Count | None = None


class Sweep(Section):
    max_in_flight: InFlight | None = None
    checkpoint_seconds: Seconds = 2
    session_ttl_seconds: Seconds = 180
    call_timeout_seconds: Seconds = 5
    retry_attempts: Annotated[Integer, Field(ge=1, le=100)] = 6
    retry_seconds: Seconds = 60
    drain_seconds: Seconds = 8


class Publish(Section):
    fold: bool = True
    row_group_rows: Count = 131_072
    memory_limit: MemorySize = "1GB"


class Source(Section):
    """Which account and region to ask, and how fast. What is None is left to boto3 or to the quota."""

    region: Text | None = None
    profile: Text | None = None
    role_arn: RoleArn | None = None
    external_id: Text | None = None
    expected_account_id: AccountId | None = None
    endpoint_url: EndpointUrl | None = None
    max_tps: Rate | None = None
    quota_share: Share = 0.5
    max_in_flight: InFlight | None = None

    @model_validator(mode="after")
    def _external_id_needs_a_role(self) -> Self:
        if self.external_id is not None and self.role_arn is None:
            raise ValueError("must have a role_arn where it has an external_id")
        return self


class Scale(Section):
    runner: Literal["threads", "dask"] = "threads"
    address: Text | None = None
    # A slice is one Prefect task, and a flow run bears about 200 of them.
    slices: Annotated[Integer, Field(ge=1, le=200)] = 1


class Report(Section):
    threshold: Percent = 80
    subject_attribute: Text | None = None
    min_cell: Count = 10
    timezone: TimeZoneName = "UTC"


class Alerts(Section):
    webhook_url: WebhookUrl | None = None
    sns_topic_arn: TopicArn | None = None
    max_error_share: ShareOrZero = 0.01
    max_expired_share: ShareOrZero = 0.05
    max_not_found_share: ShareOrZero = 0.05
    min_requested: Annotated[Integer, Field(ge=0)] = 1
    drift: bool = True


class Log(Section):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["text", "json"] = "text"


def _names_differ(sources: dict[str, Source]) -> dict[str, Source]:
    # One file on some disks, two on others; and how a lower-cased environment variable misses its source.
    if len({name.lower() for name in sources}) < len(sources):
        raise ValueError("must not have two names that differ in case only (a variable's is lower-case)")
    return sources


class Settings(Section):
    """The whole configuration."""

    manifest: Manifest = Manifest()
    output: Output = Output()
    images: Images = Images()
    sweep: Sweep = Sweep()
    publish: Publish = Publish()
    sources: Annotated[dict[SourceName, Source], AfterValidator(_names_differ)] = {}
    scale: Scale = Scale()
    report: Report = Report()
    alerts: Alerts = Alerts()
    log: Log = Log()

    def sources_or_default(
        self,
        region: str | None = None,
        endpoint_url: str | None = None,
        max_tps: float | None = None,
        allow_endpoints: tuple[str, ...] = (),
    ) -> dict[str, Source]:
        """The sources to ask, by name: those configured, or the one source `default` that the flags describe.

        The flags also win over a [sources.default] that stands alone. With any other source it would be
        unclear which one they mean: ConfigError, as for a value that cannot be.
        """
        flags = {"region": region, "endpoint_url": endpoint_url, "max_tps": max_tps}
        given = {key: value for key, value in flags.items() if value is not None}
        if self.sources and not given:
            return self.sources
        if not self.sources.keys() <= {"default"}:
            names = " and ".join(f"--{key.replace('_', '-')}" for key in given)
            raise ConfigError(
                f"command line: {names} cannot be given with the sources {', '.join(self.sources)}; "
                f"set {' and '.join(given)} under [sources.NAME] in the configuration file instead."
            )
        try:
            flagged = Source.model_validate(given, context={"allow_endpoints": allow_endpoints})
        except ValidationError as error:
            raise ConfigError(_problems(error, [("command line", given)])) from None
        configured = self.sources.get("default", Source())
        return {"default": configured.model_copy(update={key: getattr(flagged, key) for key in given})}


def load_settings(
    config_file: Path | None,
    overrides: Mapping[str, object],
    environ: Mapping[str, str] = os.environ,
    allow_endpoints: tuple[str, ...] = (),
) -> Settings:
    """Merge and validate the layers: overrides over environ over config_file over the defaults.

    overrides: "section.key" to value, from the command line; None is a flag that was not given.
    allow_endpoints: hosts outside AWS that an endpoint_url may name.
    Raises ConfigError with a line for each problem.
    """
    layers: list[Layer] = [] if config_file is None else [(str(config_file), _read_toml(config_file))]
    layers += _environment_layers(environ)
    layers += [("command line", _nested(key, value)) for key, value in overrides.items() if value is not None]
    merged: Table = {}
    for _, table in layers:
        merged = _merge(merged, table)
    try:
        return Settings.model_validate(merged, context={"allow_endpoints": allow_endpoints})
    except ValidationError as error:
        raise ConfigError(_problems(error, layers)) from None


def known_keys() -> list[str]:
    """Every key that a configuration may have, dotted; those of sources as "sources.NAME.region"."""
    defaults = Settings()
    tables = {name: type(getattr(defaults, name)) for name in Settings.model_fields if name != "sources"}
    tables["sources.NAME"] = Source
    return [f"{name}.{key}" for name, table in tables.items() for key in table.model_fields]


# --- the layers ---

Table = dict[str, Any]  # as tomllib gives it
Layer = tuple[str, Table]  # where it comes from, in words, and what stands there


class _Environment(BaseSettings, Settings):
    """Tells EnvSettingsSource the keys, and how a variable is called."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", enable_decoding=False, env_ignore_empty=True
    )


def _environment_layers(environ: Mapping[str, str]) -> list[Layer]:
    """One layer for each variable, so that an error can name it."""
    layers: list[Layer] = []
    source = EnvSettingsSource(_Environment)
    for name, value in environ.items():
        if name.upper().startswith(ENV_PREFIX) and value:
            source.env_vars = {name.lower(): value}
            # pydantic-settings passes over a section that it does not know; here that typo is an error.
            table = source() or {name.lower().split("__")[1]: value}
            layers.append((f"environment variable {name}", table))
    return layers


def _read_toml(path: Path) -> Table:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"{path}: cannot be read ({reason}); --config takes a TOML file.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8.") from None
    except ValueError as error:  # TOMLDecodeError, and int()'s own where a number has thousands of digits
        raise ConfigError(f"{path}: is not valid TOML: {error}.") from None


def _nested(dotted: str, value: object) -> Table:
    section, _, key = dotted.rpartition(".")
    return {section: {key: value}}


def _merge(base: Table, winner: Table) -> Table:
    merged = dict(base)
    for key, value in winner.items():
        below = base.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


# --- what is wrong, in words ---


def _problems(error: ValidationError, layers: list[Layer]) -> str:
    """A line for each problem: the layer that won, the dotted key and what is wrong, but never the value."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        keys = [str(key) for key in problem["loc"] if key != "[key]"]  # pydantic's mark for a bad name
        where = next(where for where, table in reversed(layers) if _holds(table, keys))
        lines.append(f"{where}: {_sentence(problem, keys)}")
    return "\n".join(lines)


def _holds(table: object, keys: list[str]) -> bool:
    for key in keys:
        if not isinstance(table, dict):
            return True  # the value itself is wrong, or an item of it
        if key not in table:
            return False
        table = table[key]
    return True


# pydantic's kind of problem, as someone who writes TOML or sets a variable would put it.
_WORDS = {
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "tuple_type": "must be a list",
    "string_type": "must be text, in quotes",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}


def _sentence(problem: ErrorDetails, keys: list[str]) -> str:
    name = ".".join(keys)
    if problem["type"] == "extra_forbidden":
        known = [*Settings.model_fields, *known_keys()]
        if keys[0] == "sources":
            known = [key.replace("NAME", keys[1]) for key in known]
        near = difflib.get_close_matches(name, known, n=1)
        return f"{name} is not a known key" + (f"; did you mean {near[0]}?" if near else ".")
    message = problem["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)
    return f"{name} {_WORDS.get(problem['type'], message)}."
