"""The ceiling of a source: how many calls a second it may be asked, and where that figure comes from."""

from dataclasses import dataclass
from typing import Final

_DOCUMENTED_TPS: Final = {"us-east-1": 25.0, "us-west-2": 25.0}
_DOCUMENTED_ELSEWHERE_TPS: Final = 5.0
"""AWS General Reference, 'Amazon Rekognition endpoints and quotas', Face Liveness operations per account."""


@dataclass(frozen=True)
class Ceiling:
    """Calls a second, and the reason for them in words."""

    tps: float
    why: str


def source_ceiling(region: str, *, max_tps: float | None, quota_share: float) -> Ceiling:
    """The configured ceiling, or this job's share of the documented default quota of the region."""
    if max_tps is not None:
        return Ceiling(max_tps, "configured max_tps")
    quota = _DOCUMENTED_TPS.get(region, _DOCUMENTED_ELSEWHERE_TPS)
    return Ceiling(quota * quota_share, f"{quota_share:g} of the documented default quota of {quota:g}/s in {region}")
