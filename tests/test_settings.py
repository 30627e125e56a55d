"""The configuration: which layer wins, and what is said about a key or value that cannot be."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from liveness_etl.errors import ConfigError
from liveness_etl.settings import Settings, Source, known_keys, load_settings

DEFAULT_TOML = Path(__file__).parent.parent / "config" / "default.toml"
SECRET = "T0PSECRET"


def load(
    tmp_path: Path,
    toml: str = "",
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    allow_endpoints: tuple[str, ...] = (),
) -> Settings:
    path = tmp_path / "conf.toml"
    path.write_text(toml, encoding="utf-8")
    return load_settings(path, overrides or {}, environ or {}, allow_endpoints)


def refusal(tmp_path: Path, toml: str = "", **layers: Mapping[str, object]) -> str:
    """The message of the ConfigError, with the file named by its last part."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, toml, **layers)  # type: ignore[arg-type]
    return str(caught.value).replace(f"{tmp_path}/", "")


# --- layers ---


def test_without_any_layer_the_defaults_hold():
    """The figures that the contract names."""
    settings = load_settings(None, {}, {})
    assert settings.sweep.model_dump() == {
        "max_in_flight": None,
        "checkpoint_seconds": 2,
        "session_ttl_seconds": 180,
        "call_timeout_seconds": 5,
        "retry_attempts": 6,
        "retry_seconds": 60,
        "drain_seconds": 8,
    }
    assert (settings.images.mode, settings.report.min_cell, Source().quota_share) == ("store", 10, 0.5)
    assert settings.sources == {}


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path):
    """Each layer replaces single keys of the one below, not whole tables."""
    settings = load(
        tmp_path,
        "[sweep]\nretry_attempts = 1\nretry_seconds = 1\ndrain_seconds = 1",
        {"sweep.retry_attempts": 3},
        {"LIVENESS_ETL__SWEEP__RETRY_ATTEMPTS": "2", "LIVENESS_ETL__SWEEP__RETRY_SECONDS": "2"},
    )
    sweep = settings.sweep
    assert (sweep.retry_attempts, sweep.retry_seconds, sweep.drain_seconds, sweep.checkpoint_seconds) == (
        3,
        2,
        1,
        2,
    )


def test_flag_that_was_not_given_leaves_the_file_alone(tmp_path: Path):
    """None among the overrides is no value."""
    assert load(tmp_path, '[output]\nuri = "out"', {"output.uri": None}).output.uri == "out"


def test_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch):
    """Callers need not hand it over."""
    monkeypatch.setenv("LIVENESS_ETL__SWEEP__CHECKPOINT_SECONDS", "1")
    assert load_settings(None, {}).sweep.checkpoint_seconds == 1


def test_given_environment_is_read_instead_of_that_of_the_process(monkeypatch: pytest.MonkeyPatch):
    """Nothing leaks in from os.environ where another mapping is given."""
    monkeypatch.setenv("LIVENESS_ETL__SWEEP__CHECKPOINT_SECONDS", "1")
    assert load_settings(None, {}, {}).sweep.checkpoint_seconds == 2


def test_source_in_the_environment_joins_the_one_of_the_file_in_lower_case(tmp_path: Path):
    """LIVENESS_ETL__SOURCES__PROD_EU__MAX_TPS is a key of [sources.prod_eu]."""
    settings = load(
        tmp_path,
        '[sources.prod_eu]\nregion = "eu-west-1"\n[sources.us]',
        environ={"LIVENESS_ETL__SOURCES__PROD_EU__MAX_TPS": "3"},
    )
    assert settings.sources == {"prod_eu": Source(region="eu-west-1", max_tps=3), "us": Source()}


def test_list_in_the_environment_is_written_with_commas():
    """No JSON in shell quotes."""
    environ = {"LIVENESS_ETL__MANIFEST__ATTRIBUTES": "channel, device"}
    assert load_settings(None, {}, environ).manifest.attributes == ("channel", "device")


def test_empty_variable_counts_as_unset():
    """Compose files and CI pass on variables that nobody set as empty ones."""
    assert load_settings(None, {}, {"LIVENESS_ETL__OUTPUT__REGION": ""}).output.region is None


def test_settings_are_read_only():
    """What was validated once stays as it was."""
    settings = load_settings(None, {}, {})
    with pytest.raises(ValueError, match="frozen"):
        settings.sweep.retry_attempts = 7  # type: ignore[misc]


# --- unknown keys ---


@pytest.mark.parametrize(
    ("toml", "key", "nearest"),
    [
        ("[sweep]\ncheckpoint_second = 1", "sweep.checkpoint_second", "sweep.checkpoint_seconds"),
        ("[swep]\nretry_seconds = 1", "swep", "sweep"),
        ("retry_attempts = 1", "retry_attempts", "sweep.retry_attempts"),
        ('[log]\nwebhook_url = "https://a.b"', "log.webhook_url", "alerts.webhook_url"),
        ('[sources.eu]\nregoin = "eu-west-1"', "sources.eu.regoin", "sources.eu.region"),
    ],
)
def test_unknown_key_is_named_with_its_file_and_the_nearest_known_one(
    tmp_path: Path, toml: str, key: str, nearest: str
):
    """A typo, a key outside its table and one in the wrong table."""
    assert refusal(tmp_path, toml) == f"conf.toml: {key} is not a known key; did you mean {nearest}?"


def test_unknown_key_that_resembles_none_gets_no_guess(tmp_path: Path):
    """A far-fetched suggestion is worse than none."""
    assert refusal(tmp_path, "zzz = 1") == "conf.toml: zzz is not a known key."


@pytest.mark.parametrize(
    ("variable", "key", "nearest"),
    [
        ("LIVENESS_ETL__SWEEP__RETRY_ATTEMPT", "sweep.retry_attempt", "sweep.retry_attempts"),
        ("LIVENESS_ETL__SWEP__RETRY_ATTEMPTS", "swep", "sweep"),
    ],
)
def test_unknown_variable_is_an_error_that_names_it(tmp_path: Path, variable: str, key: str, nearest: str):
    """A typo in the environment is not silent, not in the section either."""
    message = refusal(tmp_path, environ={variable: "1"})
    assert message == f"environment variable {variable}: {key} is not a known key; did you mean {nearest}?"


def test_other_variables_are_left_alone():
    """Only the double underscore makes it ours: Kubernetes sets LIVENESS_ETL_SERVICE_HOST and the like."""
    environ = {"LIVENESS_ETL_SERVICE_HOST": "10.0.0.1", "PATH": "/bin"}
    assert load_settings(None, {}, environ) == Settings()


# --- values ---


@pytest.mark.parametrize(
    ("key", "value", "wrong"),
    [
        ("sweep.retry_seconds", "0", "must be greater than 0"),
        ("sweep.retry_seconds", "nan", "must be a finite number"),
        ("sweep.retry_seconds", "86401", "must be less than or equal to 86400"),
        ("sweep.retry_seconds", '"soon"', "must be a number"),
        ("sweep.retry_seconds", "true", "must be a number, not true or false"),
        ("sweep.retry_attempts", "1.5", "must be a whole number"),
        ("sweep.max_in_flight", "513", "must be less than or equal to 512"),
        ("sweep", "1", "must be a table"),
        ("sources.eu", "1", "must be a table"),
        ("sources.eu.max_tps", "inf", "must be a finite number"),
        ("sources.eu.quota_share", "0", "must be greater than 0"),
        ("sources.eu.quota_share", "1.01", "must be less than or equal to 1"),
        ("sources.eu.role_arn", '"admin"', "must be like arn:aws:iam::123456789012:role/NAME"),
        (
            "sources.eu.expected_account_id",
            '"12345"',
            "must be an AWS account number: 12 digits, in quotes",
        ),
        ("output.expected_bucket_owner", "123456789012", "must be text, in quotes"),
        ("output.uri", '" "', "must be text, and not empty"),
        ("manifest.attributes", "1", "must be a list"),
        ("images.mode", '"keep"', "must be 'store' or 'discard'"),
        ("images.source_buckets", '["Not_A_Bucket"]', "must be the name of an S3 bucket"),
        ("publish.fold", '"maybe"', "must be true or false"),
        ("publish.memory_limit", '"lots"', "must be a size like 1GB, 512MB or 2GiB"),
        ("scale.slices", "0", "must be greater than or equal to 1"),
        ("report.threshold", "101", "must be less than or equal to 100"),
        (
            "report.timezone",
            '"Europe"',
            "must be a name of the IANA time zone database, like Europe/Berlin",
        ),
        (
            "alerts.sns_topic_arn",
            '"topic"',
            "must be like arn:aws:sns:eu-west-1:123456789012:NAME",
        ),
        ("log.level", '"LOUD"', "must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    ],
)
def test_value_that_cannot_be_is_named_with_file_key_and_reason(tmp_path: Path, key: str, value: str, wrong: str):
    """One sentence in the words of someone who writes TOML."""
    named = f"{key}.0" if "source_buckets" in key else key
    assert refusal(tmp_path, f"{key} = {value}") == f"conf.toml: {named} {wrong}."


@pytest.mark.parametrize("size", ["1GB", "512MB", "2GiB", "1.5 GB"])
def test_memory_limit_takes_the_sizes_that_duckdb_takes(tmp_path: Path, size: str):
    """Decimal and binary units."""
    assert load(tmp_path, f'[publish]\nmemory_limit = "{size}"').publish.memory_limit == size


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a b", "a/b", "x" * 65])
def test_source_name_that_is_no_safe_file_name_is_refused(tmp_path: Path, name: str):
    """Names of sources end up in file names."""
    assert "must be a name of up to 64" in refusal(tmp_path, f'[sources."{name}"]')


def test_source_names_that_differ_in_case_only_are_refused(tmp_path: Path):
    """Else the variable would make a second source beside [sources.EU], silently."""
    message = refusal(tmp_path, "[sources.EU]", environ={"LIVENESS_ETL__SOURCES__EU__MAX_TPS": "3"})
    assert "differ in case only" in message


def test_external_id_without_a_role_is_refused(tmp_path: Path):
    """It would be ignored."""
    message = refusal(tmp_path, '[sources.eu]\nexternal_id = "x"')
    assert message == "conf.toml: sources.eu must have a role_arn where it has an external_id."


def test_each_problem_has_a_line_that_names_the_layer_that_won(tmp_path: Path):
    """File, variable and flag are told apart, also within one table."""
    message = refusal(
        tmp_path,
        "[sweep]\nretry_attempts = 0\nretry_seconds = 0\ndrain_seconds = 0",
        overrides={"sweep.retry_attempts": -1},
        environ={"LIVENESS_ETL__SWEEP__RETRY_SECONDS": "x"},
    )
    assert message.splitlines() == [
        "command line: sweep.retry_attempts must be greater than or equal to 1.",
        "environment variable LIVENESS_ETL__SWEEP__RETRY_SECONDS: sweep.retry_seconds must be a number.",
        "conf.toml: sweep.drain_seconds must be greater than 0.",
    ]


# --- the file ---


def test_file_that_cannot_be_read_is_named(tmp_path: Path):
    """Not there, and a folder."""
    for path, reason in [(tmp_path / "none.toml", "No such file"), (tmp_path, "Is a directory")]:
        with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}: cannot be read .{reason}"):
            load_settings(path, {}, {})


def test_file_that_is_not_utf8_is_named(tmp_path: Path):
    """As an editor of another age would save it."""
    path = tmp_path / "latin1.toml"
    path.write_bytes('[output]\nuri = "café"'.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin1\.toml: is not UTF-8 text \(byte 19\)"):
        load_settings(path, {}, {})


def test_byte_order_mark_is_no_error(tmp_path: Path):
    """Windows editors write one."""
    path = tmp_path / "bom.toml"
    path.write_bytes(b'\xef\xbb\xbf[output]\nuri = "out"')
    assert load_settings(path, {}, {}).output.uri == "out"


def test_syntax_error_is_named_with_its_line(tmp_path: Path):
    """As tomllib tells it."""
    message = refusal(tmp_path, "[sweep]\nretry_seconds = = 3")
    assert message.startswith("conf.toml: is not valid TOML: ")
    assert "line 2" in message


# --- endpoints ---

ENDPOINT_KEYS = ["output.endpoint_url", "sources.eu.endpoint_url"]


@pytest.mark.parametrize("key", ENDPOINT_KEYS)
@pytest.mark.parametrize(
    "url",
    [
        "https://rekognition.eu-west-1.amazonaws.com",
        "https://rekognition.cn-north-1.amazonaws.com.cn/",
        "http://127.0.0.1:5000",
        "http://localhost:5000",
        "http://[::1]:5000",
        "https://localhost",
    ],
)
def test_aws_and_loopback_endpoints_are_taken(tmp_path: Path, key: str, url: str):
    """They need no leave."""
    load(tmp_path, f"{key} = '{url}'")


@pytest.mark.parametrize("key", ENDPOINT_KEYS)
@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("http://rekognition.eu-west-1.amazonaws.com", "must be https"),
        ("http://minio:9000", "must be https"),
        ("http://127.0.0.1.example.com", "must be https"),
        ("https://gateway.example.com", "must be a host of AWS"),
        ("https://evilamazonaws.com", "must be a host of AWS"),
        ("https://x.amazonaws.com.example.com", "must be a host of AWS"),
        (f"https://user:{SECRET}@x.amazonaws.com", "must look like"),
        ("https://example.com\\.amazonaws.com", "must look like"),
        ("https://example.com#.amazonaws.com", "must look like"),
        (f"https://x.amazonaws.com/?token={SECRET}", "must look like"),
        ("https://x.amazonaws.com:99999", "must look like"),
        ("ftp://x.amazonaws.com", "must look like"),
        ("x.amazonaws.com", "must look like"),
    ],
)
def test_endpoint_in_clear_text_or_elsewhere_is_refused(tmp_path: Path, key: str, url: str, wrong: str):
    """Odd spellings of a host included, and without repeating a password."""
    message = refusal(tmp_path, f"{key} = '{url}'")
    assert message.startswith(f"conf.toml: {key} {wrong}")
    assert SECRET not in message


@pytest.mark.parametrize("key", ENDPOINT_KEYS)
def test_endpoint_elsewhere_is_taken_if_its_host_is_allowed(tmp_path: Path, key: str):
    """That very host, over https."""
    toml = f"{key} = 'https://Gateway.example.com:8443/s3'"
    load(tmp_path, toml, allow_endpoints=("gateway.example.com",))
    with pytest.raises(ConfigError, match=r"give --allow-endpoint gateway\.example\.com"):
        load(tmp_path, toml, allow_endpoints=("example.com",))
    with pytest.raises(ConfigError, match="must be https"):
        load(tmp_path, toml.replace("https", "http"), allow_endpoints=("gateway.example.com",))


# --- the source of the flags ---


def test_without_sources_the_flags_make_one_named_default():
    """Each flag is optional."""
    settings = load_settings(None, {}, {})
    assert settings.sources_or_default() == {"default": Source()}
    flags = settings.sources_or_default("eu-west-1", "http://127.0.0.1:1", 5)
    assert flags == {
        "default": Source(region="eu-west-1", endpoint_url="http://127.0.0.1:1", max_tps=5),
    }


def test_flags_win_over_a_default_source_that_stands_alone():
    """As flags do everywhere; what they do not set stays."""
    prefix, endpoint = "LIVENESS_ETL__SOURCES__DEFAULT__", "https://a.example"
    environ = {f"{prefix}MAX_TPS": "3", f"{prefix}REGION": "r", f"{prefix}ENDPOINT_URL": endpoint}
    sources = load_settings(None, {}, environ, ("a.example",)).sources_or_default(max_tps=9)
    assert sources["default"].model_dump(exclude_defaults=True) == {
        "region": "r",
        "endpoint_url": endpoint,
        "max_tps": 9,
    }


def test_flags_beside_configured_sources_are_refused(tmp_path: Path):
    """Which source they mean would be a guess; without them the sources are used as they are."""
    settings = load(tmp_path, "[sources.eu]\n[sources.us]")
    assert settings.sources_or_default() == {"eu": Source(), "us": Source()}
    with pytest.raises(ConfigError, match=r"--region and --max-tps cannot .* eu, us; set region and max_tps"):
        settings.sources_or_default("eu-west-1", max_tps=3)


def test_flag_with_a_value_that_cannot_be_is_refused():
    """The same rules as in the file."""
    settings = load_settings(None, {}, {})
    with pytest.raises(ConfigError, match=r"^command line: max_tps must be greater than 0"):
        settings.sources_or_default(max_tps=0)
    with pytest.raises(ConfigError, match=r"^command line: endpoint_url must be a host of AWS"):
        settings.sources_or_default(endpoint_url="https://a.example")
    settings.sources_or_default(endpoint_url="https://a.example", allow_endpoints=("a.example",))


# --- secrets ---


def test_webhook_url_is_never_shown(tmp_path: Path):
    """Not in a repr, not in a dump."""
    settings = load(tmp_path, f'[alerts]\nwebhook_url = "https://hooks.example.com/{SECRET}"')
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()
    assert settings.alerts.webhook_url is not None
    assert settings.alerts.webhook_url.get_secret_value().endswith(SECRET)


@pytest.mark.parametrize("toml", ["alerts.webhook_url = {}", "alerts.webhok_url = {}", "alerts = {}"])
def test_refused_webhook_url_is_not_repeated(tmp_path: Path, toml: str):
    """Neither in the message nor in an exception chained to it."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, toml.format(f'"http://hooks.example.com/{SECRET}"'))
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__
    assert SECRET not in str(caught.value.__context__)


# --- config/default.toml ---


def test_default_toml_holds_the_defaults():
    """What is not commented out equals the models' defaults, and each default stands there."""
    table = tomllib.loads(DEFAULT_TOML.read_text(encoding="utf-8"))
    defaults = {
        name: {key: value for key, value in section.items() if value is not None}
        for name, section in Settings().model_dump(mode="json").items()
        if name != "sources"
    }
    assert table == defaults
    assert load_settings(DEFAULT_TOML, {}, {}) == Settings()


def test_default_toml_names_each_key_with_a_comment_and_a_valid_example(tmp_path: Path):
    """Also the keys that are commented out: without their '# ' the file loads as well."""
    toml = re.sub(r"^# (?=\[|\w+ = )", "", DEFAULT_TOML.read_text(encoding="utf-8"), flags=re.MULTILINE)
    load(tmp_path, toml)
    table = tomllib.loads(toml)
    sources = table.pop("sources")
    keys = [f"{name}.{key}" for name, section in table.items() for key in section]
    keys += [f"sources.NAME.{key}" for source in sources.values() for key in source]
    assert sorted(keys) == sorted(known_keys())
    bare = [line for line in toml.splitlines() if re.match(r"\w+ = ", line) and not re.search(r" # \S", line)]
    assert bare == []


def test_source_example_of_default_toml_holds_the_defaults_of_a_source():
    """The one default that a source has."""
    assert f"# quota_share = {Source().quota_share} " in DEFAULT_TOML.read_text(encoding="utf-8")


def test_importing_settings_brings_no_heavy_library():
    """`run` must start within about a second."""
    heavy = {"boto3", "pandas", "prefect", "pyarrow"}
    code = f"import liveness_etl.settings, sys; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
