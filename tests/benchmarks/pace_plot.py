"""stub"""

from typing import NamedTuple
from tests.benchmarks.judge import Seen


class Curve(NamedTuple):
    who: str
    seen: Seen
    ids: int
    answered: int


def draw(curves: list[Curve]) -> str:
    import pickle
    from pathlib import Path

    Path("/tmp/pc/curves.pickle").write_bytes(pickle.dumps(curves))
    return ""
