"""Everything about the stand-in server that can be set, checked once.

The same names hold everywhere: `LocalConfig(limit_tps=50)`, `LocalRekognition.configure(limit_tps=25)`,
`POST /_local/config` with `{"limit_tps": 25}`, `python -m liveness_etl.local --config '{"limit_tps": 50}'`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeGuard

STATUSES = ("CREATED", "IN_PROGRESS", "SUCCEEDED", "FAILED", "EXPIRED")
NOT_FOUND = "SessionNotFoundException"
IMAGE_MODES = ("s3", "inline", "mixed", "none")
LIMIT_KINDS = ("token_bucket", "fixed_window", "sliding_window")

TRANSIENT_FAULTS = (
    "500",  # InternalServerError
    "throttle",  # ThrottlingException
    "provisioned",  # ProvisionedThroughputExceededException
    "reset",  # TCP reset instead of an answer
    "cut",  # half of the announced body, then the end of the connection
    "garbage",  # 200 with text that is no JSON: botocore returns a dict without Status
    "binary",  # 200 with bytes that are no UTF-8: botocore raises UnicodeDecodeError
    "empty",  # 200 with {}
    "stall",  # the answer comes stall_seconds later
    "html503",  # a proxy's page
)
"""What a client should get over by asking again."""
FAULT_KINDS = (
    *TRANSIENT_FAULTS,
    "denied",  # AccessDeniedException
    "invalid",  # InvalidParameterException
    "not_found",  # SessionNotFoundException
    "wrong_id",  # another session's answer
)

Fault = str | Mapping[str, Any]
"""A name of FAULT_KINDS, or `{"body": str | bytes, "status": int, "headers": {…}}` sent as it stands."""
FaultScript = Fault | Sequence[Fault | None]
"""One fault for every ask, or one entry per ask: `["500", None]` fails the first and answers from then on."""

LARGEST_IMAGE_BYTES = 204_800  # LivenessImageBlob in the service model
SMALLEST_IMAGE_BYTES = 64


def _default_outcome_shares() -> dict[str, float]:
    return {
        "SUCCEEDED": 0.90,
        "FAILED": 0.05,
        "CREATED": 0.02,
        "IN_PROGRESS": 0.01,
        "EXPIRED": 0.01,
        NOT_FOUND: 0.01,
    }


@dataclass(frozen=True, kw_only=True)
class LocalConfig:
    """How the stand-in behaves. Raises ValueError, naming the setting, for a value that cannot be."""

    seed: int = 0

    answer_any: bool = False
    """Any UUID is a session, derived from (seed, id) and kept nowhere; else only added ids exist."""
    outcome_shares: Mapping[str, float] = field(default_factory=_default_outcome_shares)
    """Shares (sum 1) of statuses and SessionNotFoundException among ids of `answer_any`. Added sessions end
    by the shares of SUCCEEDED, FAILED and CREATED alone (CREATED: nobody ever starts it)."""

    start_seconds: float = 5.0
    """Age at which an added session goes from CREATED to IN_PROGRESS."""
    finish_seconds: float = 20.0
    """Age at which an added session is SUCCEEDED or FAILED."""
    ttl_seconds: float | None = 180.0
    """Age at which an added session expires, finished or not; None: never."""
    expired_answer: str = "EXPIRED"
    """What a session past its ttl answers: EXPIRED, or SessionNotFoundException. AWS does not say which."""

    image_mode: str = "s3"
    """Images as S3Object, as Bytes, half of the sessions each ("mixed"), or no images at all ("none")."""
    image_bytes: int = 20_000
    """Size of an inline image before base64."""
    image_marker: bytes = b""
    """Stands in every inline image, at a multiple of three, so that `base64(marker)` stands in the answer too
    where its length is a multiple of three."""
    image_bucket: str = "liveness-images"
    image_prefix: str = "sessions"

    extra_members: Mapping[str, Any] = field(default_factory=dict)
    """Members that a newer service sends: added to the answer of every SUCCEEDED or FAILED session, to its
    structures and to the entries of its lists. `{"Score": 1, "AuditImages": {"Blur": 2}}` adds one to the answer
    and one to each audit image."""

    limit_tps: float | None = None
    """Accepted requests per second, one allowance for both operations; None: no limit."""
    limit_kind: str = "token_bucket"
    burst_seconds: float = 0.1
    """The token bucket holds `max(1, limit_tps * burst_seconds)`."""

    latency_seconds: float = 0.0
    """Median time to an answer."""
    latency_tail_share: float = 0.0
    """Share of ids whose first ask is slow."""
    latency_tail_seconds: float = 1.0
    """Least time of a slow ask; the mean is about twice that, the most ten times."""

    faults: Mapping[str, FaultScript] = field(default_factory=dict)
    """Scripts by session id; `"*"` stands for every id without one of its own."""
    fault_share: float = 0.0
    """Share of the other ids whose first one or two asks meet a fault."""
    fault_kinds: Sequence[str] = TRANSIENT_FAULTS
    """What those meet."""
    stall_seconds: float = 10.0
    """How long a "stall" stays silent before it answers after all."""

    count_ids: bool = False
    """Keep asks and answers per id for the statistics (memory per id asked)."""

    @classmethod
    def field_names(cls) -> frozenset[str]:
        return frozenset(each.name for each in fields(cls))

    def __post_init__(self) -> None:
        _check_numbers(self)
        _check_choices(self)
        _check_shares(self)
        _check_images(self)
        _check_faults(self)


def changes_from_json(changes: object) -> dict[str, Any]:
    """Keyword arguments for LocalConfig from decoded JSON. Raises ValueError for what is no known setting."""
    if not isinstance(changes, dict):
        raise ValueError("settings must be one JSON object")
    unknown = sorted(changes.keys() - LocalConfig.field_names())
    if unknown:
        raise ValueError(f"there is no setting named {', '.join(unknown)}")
    if isinstance(changes.get("image_marker"), str):
        changes = {**changes, "image_marker": changes["image_marker"].encode()}
    return changes


def is_number(value: object) -> TypeGuard[float]:
    """A finite number that is no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _is_share(value: object) -> bool:
    return is_number(value) and 0 <= value <= 1


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ValueError(sentence)


def _check_numbers(config: LocalConfig) -> None:
    for name in (
        "start_seconds",
        "finish_seconds",
        "burst_seconds",
        "latency_seconds",
        "latency_tail_seconds",
        "stall_seconds",
    ):
        value = getattr(config, name)
        _require(is_number(value) and value >= 0, f"{name} must be a number of seconds, 0 or more")
    for name in ("ttl_seconds", "limit_tps"):
        value = getattr(config, name)
        _require(value is None or (is_number(value) and value > 0), f"{name} must be above 0, or none")
    for name in ("latency_tail_share", "fault_share"):
        _require(_is_share(getattr(config, name)), f"{name} must be a share between 0 and 1")
    for name in ("answer_any", "count_ids"):
        _require(isinstance(getattr(config, name), bool), f"{name} must be true or false")
    _require(isinstance(config.extra_members, Mapping), "extra_members must map names to values")
    _require(isinstance(config.seed, int), "seed must be a whole number")
    _require(config.start_seconds <= config.finish_seconds, "finish_seconds must not be below start_seconds")


def _check_choices(config: LocalConfig) -> None:
    for name, choices in (
        ("expired_answer", ("EXPIRED", NOT_FOUND)),
        ("image_mode", IMAGE_MODES),
        ("limit_kind", LIMIT_KINDS),
    ):
        _require(getattr(config, name) in choices, f"{name} must be one of {', '.join(choices)}")


def _check_shares(config: LocalConfig) -> None:
    shares = config.outcome_shares
    known = (*STATUSES, NOT_FOUND)
    _require(
        isinstance(shares, Mapping) and all(name in known and _is_share(shares[name]) for name in shares),
        f"outcome_shares must map some of {', '.join(known)} to shares between 0 and 1",
    )
    _require(math.isclose(sum(shares.values()), 1, abs_tol=1e-6), "outcome_shares must add up to 1")


def _check_images(config: LocalConfig) -> None:
    _require(
        type(config.image_bytes) is int and SMALLEST_IMAGE_BYTES <= config.image_bytes <= LARGEST_IMAGE_BYTES,
        f"image_bytes must be between {SMALLEST_IMAGE_BYTES} and {LARGEST_IMAGE_BYTES}",
    )
    _require(isinstance(config.image_marker, bytes), "image_marker must be bytes")
    _require(
        len(config.image_marker) <= config.image_bytes - SMALLEST_IMAGE_BYTES // 2,
        "image_marker does not fit into image_bytes",
    )
    for name in ("image_bucket", "image_prefix"):
        value = getattr(config, name)
        _require(isinstance(value, str) and len(value) >= 3, f"{name} must be a text of three or more")


def _check_faults(config: LocalConfig) -> None:
    _require(isinstance(config.faults, Mapping), "faults must map session ids to faults")
    for script in config.faults.values():
        one_for_all = isinstance(script, str | Mapping)
        _require(one_for_all or isinstance(script, list | tuple), "a fault script must be a fault or a list")
        for fault in (script,) if one_for_all else script:
            _check_fault(fault)
    kinds = config.fault_kinds
    _require(
        isinstance(kinds, list | tuple) and len(kinds) > 0 and all(kind in FAULT_KINDS for kind in kinds),
        f"fault_kinds must list some of {', '.join(FAULT_KINDS)}",
    )


def _check_fault(fault: object) -> None:
    if isinstance(fault, Mapping):
        _require(fault.keys() <= {"body", "status", "headers"}, "a custom fault has body, status, headers")
        _require(isinstance(fault.get("body"), str | bytes), "a custom fault needs a body")
        status = fault.get("status", 200)
        _require(type(status) is int and 200 <= status <= 599, "a custom fault's status must be 200 to 599")
        headers = fault.get("headers", {})
        _require(
            isinstance(headers, Mapping) and all(isinstance(text, str) for pair in headers.items() for text in pair),
            "a custom fault's headers must map names to texts",
        )
    else:
        _require(fault is None or fault in FAULT_KINDS, f"a fault must be one of {', '.join(FAULT_KINDS)}")
