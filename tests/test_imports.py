"""Which way imports point: read from the source of every module, the imports inside functions included."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "liveness_etl"

ROOMS = {
    "errors": set(),
    "engine": {"errors"},
    "endpoints": set(),
    "masking": set(),
    "aws": {"endpoints", "masking", "errors"},
    "local": {"local"},
    "transform": {"transform", "errors"},
    "storage": {"storage_folder", "storage_s3", "storage_s3_client", "errors"},
    "storage_folder": {"storage", "errors"},
    "storage_s3": {
        "storage",
        "storage_s3_access",
        "storage_s3_client",
        "storage_s3_errors",
        "storage_s3_ranges",
        "storage_versions",
        "aws",
        "masking",
        "errors",
    },
    "storage_s3_access": {"aws"},
    "storage_s3_client": {"aws", "masking", "errors"},
    "storage_s3_ranges": set(),
    "storage_s3_errors": {"masking", "errors"},
    "storage_versions": {"storage", "errors"},
    "setting_types": {"endpoints", "errors"},
    "settings": {"setting_types", "errors"},
    "extract": {"extract", "transform", "storage", "storage_s3", "engine", "aws", "masking", "errors"},
    "load": {"load", "transform", "storage", "storage_s3", "engine", "aws", "masking", "errors"},
    "alerts": {"alerts", "analysis", "load", "transform", "storage", "storage_s3", "aws", "masking", "errors"},
    "analysis": {
        "analysis",
        "load",
        "transform",
        "storage",
        "storage_folder",
        "storage_s3",
        "storage_s3_access",
        "engine",
        "errors",
    },
}
"""What a room may import of the others. What stands above them (job, pipeline, cli, …) may import any."""

BOTO3 = {
    "aws.py": "what all clients have in common",
    "extract/rekognition.py": "the one module that calls Rekognition",
    "extract/account.py": "a source's session and account: STS and Service Quotas",
    "extract/answer_body.py": "the answer that it gives botocore",
    "storage_s3.py": "all calls of S3",
    "storage_s3_client.py": "the client that makes them",
    "storage_s3_access.py": "credentials as botocore finds them, for DuckDB",
    "storage_s3_errors.py": "what they raise",
    "load/catalog.py": "Glue",
    "alerts/topic.py": "SNS",
}
CLIENTS = {
    "rekognition": {"extract/rekognition.py"},
    "s3": {"storage_s3_client.py"},
    "glue": {"load/catalog.py"},
    "sns": {"alerts/topic.py"},
}


EXTRAS = {"pandas", "vl_convert", "distributed", "prefect_dask", "duckdb_extension_httpfs"}
"""Imported where they are needed, with a sentence where they are not installed."""
BROUGHT = {"botocore": "boto3", "pydantic_core": "pydantic", "httpx": "prefect", "cloudpickle": "distributed"}
"""Parts of what is declared."""
PINS = {"fastapi": "for prefect", "sqlalchemy": "for prefect", "pytz": "for duckdb"}
"""Declared, and not imported here."""


def modules() -> list[Path]:
    """Every module of the package and of the flows, relative to the checkout."""
    found = [path for folder in (PACKAGE, "flows") for path in (ROOT / folder).rglob("*.py")]
    return sorted(path.relative_to(ROOT) for path in found)


def imported(module: Path) -> Iterator[str]:
    """The dotted names of the modules that a module imports."""
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            source = node.module or ""
            for alias in node.names:
                below = ROOT / source.replace(".", "/") / alias.name
                yield f"{source}.{alias.name}" if below.is_dir() or below.with_suffix(".py").exists() else source


def importers(name: str) -> set[str]:
    """The modules that import a top-level module or one below it, as paths in the package (or in flows/)."""
    return {
        module.as_posix().removeprefix(f"{PACKAGE}/")
        for module in modules()
        if any(found == name or found.startswith(f"{name}.") for found in imported(module))
    }


def name_of(called: ast.expr) -> str:
    """`f` of a call of `f` or of `x.f`."""
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def room(module: Path) -> str:
    """The room that a module of the package is in."""
    return module.parts[1].removesuffix(".py")


def test_imports_are_found_wherever_they_stand() -> None:
    """The reader of imports sees those at the top, those within a function, and submodules by their names."""
    assert {"liveness_etl.load.landing", "duckdb", "liveness_etl.errors"} <= set(
        imported(Path("liveness_etl/load/publish.py"))
    )
    assert "liveness_etl.storage_s3" in set(imported(Path("liveness_etl/storage.py")))
    assert len(modules()) > 30


@pytest.mark.parametrize("name", ROOMS)
def test_room_imports_only_what_is_below_it(name: str) -> None:
    """flows → pipeline → extract, load, analysis → transform, storage → errors; extract and load are strangers."""
    for module in modules():
        if module.parts[0] == PACKAGE and room(module) == name:
            ours = {found for found in imported(module) if found.startswith(f"{PACKAGE}.")}
            assert {found.split(".")[1] for found in ours} <= ROOMS[name], module


def test_settings_are_read_above_the_rooms_only() -> None:
    """The rooms get plain values."""
    above = {"cli_options.py", "job.py", "pipeline.py", "upkeep.py", "alarms.py", "demo.py"}
    assert {path for path in importers("liveness_etl.settings") if not path.startswith("flows/")} <= above
    assert importers("liveness_etl.setting_types") == {"settings.py"}


def test_nothing_of_the_package_imports_prefect() -> None:
    """Prefect in flows/ alone: the program runs without it."""
    assert all(path.startswith("flows/") for path in importers("prefect"))


def test_pandas_stays_out_of_the_record_path() -> None:
    """A DataFrame there would bring NaN and guessed types."""
    assert all(path.startswith(("extract/manifest", "analysis/")) for path in importers("pandas"))


def test_duckdb_is_a_merge_engine_and_a_reader() -> None:
    """Plan and publish merge with it, analysis reads."""
    others = importers("duckdb") - {"engine.py", "extract/plan.py", "extract/prior.py", "load/publish.py"}
    assert all(path.startswith("analysis/") for path in others)


def test_boto3_stays_where_there_is_a_reason_for_it() -> None:
    """Every module that imports it is named here, with why."""
    assert importers("boto3") | importers("botocore") <= BOTO3.keys()


@pytest.mark.parametrize("service", CLIENTS)
def test_one_module_makes_the_client_of_a_service(service: str) -> None:
    """Rekognition's client in rekognition.py alone, S3's in storage_s3_client.py alone, and so on."""
    makers = {
        module.as_posix().removeprefix(f"{PACKAGE}/")
        for module in modules()
        for node in ast.walk(ast.parse((ROOT / module).read_text()))
        if isinstance(node, ast.Call)
        and name_of(node.func) in ("client", "resource", "make_client")
        and any(isinstance(given, ast.Constant) and given.value == service for given in node.args)
    }
    assert makers == CLIENTS[service]


def test_what_is_imported_is_declared_and_the_other_way_round() -> None:
    """A small installation has all that it needs by its own declaration, and nothing that only tests use."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[\[<>=]", need)[0] for need in project["dependencies"]}
    theirs = {found.split(".")[0] for module in modules() for found in imported(module)} - sys.stdlib_module_names
    ours = {PACKAGE, *(module.stem for module in modules() if module.parts[0] == "flows")}
    assert {name.replace("_", "-") for name in theirs - ours - BROUGHT.keys() - EXTRAS} == declared - PINS.keys()


@pytest.mark.parametrize(("name", "allowed"), [("local", set()), ("errors", set()), ("transform", {"pyarrow"})])
def test_room_needs_only_the_standard_library(name: str, allowed: set[str]) -> None:
    """The stand-in runs anywhere; the pure rooms know Arrow and nothing that reads or writes."""
    for module in modules():
        if module.parts[0] == PACKAGE and room(module) == name:
            theirs = {found.split(".")[0] for found in imported(module)} - {PACKAGE}
            assert theirs - allowed <= sys.stdlib_module_names, module
