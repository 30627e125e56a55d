"""The ceiling of a source: how many calls a second it may be asked, and where that figure comes from."""

from collections.abc import Callable
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


def source_ceiling(
    region: str, *, max_tps: float | None, quota_share: float, account_quota: Callable[[], float | None]
) -> Ceiling:
    """The configured ceiling; else this job's share of the account's quota; else of the region's documented one.

    `account_quota` asks Service Quotas, and is called only where nothing is configured.
    """
    if max_tps is not None:
        return Ceiling(max_tps, "configured max_tps")
    quota = account_quota()
    if quota is not None:
        return Ceiling(quota * quota_share, f"{quota_share:g} of the account's quota of {quota:g}/s")
    quota = _DOCUMENTED_TPS.get(region, _DOCUMENTED_ELSEWHERE_TPS)
    return Ceiling(quota * quota_share, f"{quota_share:g} of the documented default quota of {quota:g}/s in {region}")
