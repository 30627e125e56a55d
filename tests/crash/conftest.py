"""Outputs for runs that something happens to, and what they write where nothing does."""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.crash.scenario")

from tests.crash.growing import Growing, growing_case, make_growing  # noqa: E402
from tests.crash.mishaps import Recorded  # noqa: E402 - after it is known which module's assertions explain themselves
from tests.crash.scenario import (  # noqa: E402
    Open,
    check_completed,
    folder_case,
    make_scenario,
    s3_case,
    without_past,
)


@pytest.fixture(scope="session")
def outputs(
    tmp_path_factory: pytest.TempPathFactory, client_of: Callable[[str], Any], moto_endpoint: str
) -> Mapping[str, Open]:
    """A folder and a bucket that hold sixteen of the manifest's ids already, and a folder that does not exist yet."""
    scenario = make_scenario(tmp_path_factory.mktemp("scenario"), 12)
    return {
        "folder": lambda name: folder_case(scenario, tmp_path_factory.mktemp(name)),
        "new folder": lambda name: folder_case(without_past(scenario), tmp_path_factory.mktemp(name)),
        "s3": lambda name: s3_case(scenario, tmp_path_factory.mktemp(name), client_of(moto_endpoint), moto_endpoint),
    }


@pytest.fixture(scope="session")
def boundaries(outputs: Mapping[str, Open], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Counter[str]]:
    """Every change that a run makes, with how often it makes it."""
    recorded = {}
    for kind, open_case in outputs.items():
        into = tmp_path_factory.mktemp("recorded") / "boundaries"
        with open_case("recorded") as case:
            check_completed(case, case.run(Recorded(case.place, into)), {}, {})
        recorded[kind] = Counter(into.read_text().splitlines())
    return recorded


@pytest.fixture(scope="session")
def growing_outputs(
    tmp_path_factory: pytest.TempPathFactory, client_of: Callable[[str], Any], moto_endpoint: str
) -> Mapping[str, Callable[[str], AbstractContextManager[Growing]]]:
    """A growing manifest with an output in a folder and in a bucket."""
    s3, made = client_of(moto_endpoint), make_growing(tmp_path_factory.mktemp("growing"))
    return {
        "folder": lambda name: growing_case(made, tmp_path_factory.mktemp(name)),
        "s3": lambda name: growing_case(made, tmp_path_factory.mktemp(name.lower()), s3, moto_endpoint),
    }


@pytest.fixture(scope="session")
def growing_boundaries(
    growing_outputs: Mapping[str, Callable[[str], AbstractContextManager[Growing]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, Counter[str]]:
    """Every change that a sweep of it makes, with how often it makes it."""
    recorded = {}
    for kind, open_case in growing_outputs.items():
        into = tmp_path_factory.mktemp("recorded") / "boundaries"
        with open_case(f"growing-{kind}") as case:
            ended = case.sweep(Recorded(case.place, into))
            assert ended.code == 0, ended.said
        recorded[kind] = Counter(into.read_text().splitlines())
    return recorded
