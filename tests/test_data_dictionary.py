"""README's data dictionary says what the schemas say."""

import pytest

from liveness_etl.analysis.views import results_schema
from liveness_etl.transform.tables import SCHEMAS
from tests.data_dictionary import COMMAND, README, dictionary, with_dictionary


def test_readme_is_in_step_with_the_schemas() -> None:
    """Where it is not, one command writes it again."""
    readme = README.read_text()
    assert with_dictionary(readme) == readme, f"run: {COMMAND}"


def test_every_column_stands_in_it_with_its_comment() -> None:
    """Of the six tables, and of the view."""
    lines = dictionary().splitlines()
    for schema in (*SCHEMAS.values(), results_schema(["NAME"])):
        for field in schema:
            comment = field.metadata[b"comment"].decode()
            assert any(line.startswith(f"| `{field.name}` |") and line.endswith(f"| {comment} |") for line in lines), (
                field.name
            )


@pytest.mark.parametrize("name", SCHEMAS)
def test_comments_are_short_enough_for_glue(name: str) -> None:
    """Which takes 255 characters."""
    for field in SCHEMAS[name]:
        assert 10 <= len(field.metadata[b"comment"].decode()) <= 255, field.name
