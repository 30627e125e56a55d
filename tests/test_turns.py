"""The order of tests, where several workers run them."""

import pytest


def test_tests_of_a_file_stay_together(request: pytest.FixtureRequest, worker_id: str) -> None:
    """xdist hands out what has the same name behind its @ as one; where it does not, nothing else says so."""
    if worker_id == "master":
        pytest.skip("there are no workers: see -n")
    assert request.node.nodeid.endswith("@test_turns.py")
