"""The sessions that the stand-in makes up: pure functions of (seed, session id).

Here: their ids, and the state that each is in. What a finished one answers is made in `answers`.
"""

import random
import re
import uuid
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import NamedTuple

from liveness_etl.local.config import LocalConfig

SESSION_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class ImagePlan(NamedTuple):
    """How the images of one session come: mode `s3`, `inline` or `none`."""

    mode: str
    bucket: str
    prefix: str
    audit_limit: int = 4


class Session(NamedTuple):
    """A session that was added or created: kept, unlike those of `answer_any`."""

    created_at: float
    outcome: str | None = None
    """The status it ends in (CREATED: never started); None: drawn from the id."""
    images: ImagePlan | None = None


def fraction(seed: int, *what: str) -> float:
    """A number in [0, 1) that depends on nothing but the arguments."""
    return _number(seed, *what) / 2**64


def draw(seed: int, *what: str) -> random.Random:
    """A source of randomness that depends on nothing but the arguments."""
    return random.Random(_number(seed, *what))


def _number(seed: int, *what: str) -> int:
    text = ":".join((str(seed), *what))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def session_id_for(seed: int, *what: str) -> str:
    """A lower-case UUID that depends on nothing but the arguments."""
    text = ":".join((str(seed), "id", *what))
    return str(uuid.UUID(bytes=blake2b(text.encode(), digest_size=16).digest(), version=4))


def session_ids(seed: int, n: int) -> Iterator[str]:
    """The first n ids of an endless series, the same for the same seed."""
    return (session_id_for(seed, str(number)) for number in range(n))


def stateless_outcome(config: LocalConfig, session_id: str) -> str:
    """The status of a session of `answer_any`, or SessionNotFoundException."""
    return _pick(fraction(config.seed, "outcome", session_id), config.outcome_shares)


def outcome_at(config: LocalConfig, session_id: str, session: Session, now: float) -> str:
    """The status of an added session at `now` (epoch seconds), or SessionNotFoundException."""
    age = now - session.created_at
    if config.ttl_seconds is not None and age >= config.ttl_seconds:
        return config.expired_answer
    end = session.outcome or _end(config, session_id)
    if end == "CREATED" or age < config.start_seconds:
        return "CREATED"
    return "IN_PROGRESS" if age < config.finish_seconds else end


def _end(config: LocalConfig, session_id: str) -> str:
    ends = {name: config.outcome_shares.get(name, 0.0) for name in ("SUCCEEDED", "FAILED", "CREATED")}
    total = sum(ends.values())
    return _pick(fraction(config.seed, "end", session_id) * total, ends) if total else "SUCCEEDED"


def _pick(point: float, shares: Mapping[str, float]) -> str:
    for name, share in shares.items():
        point -= share
        if point < 0:
            return name
    return max(shares, key=lambda name: shares[name])  # what rounding leaves over
