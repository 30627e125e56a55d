"""The checks in scenario.py say what differs."""

import pytest

pytest.register_assert_rewrite("tests.crash.scenario")
