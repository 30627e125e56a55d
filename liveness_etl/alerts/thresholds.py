"""Whether a run's record says that somebody has to be told. Pure: no file, no clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from liveness_etl.analysis.distributions import binomial_cdf
from liveness_etl.transform.normalize import NO_SUCH_SESSION, NOT_ASKED

MANY_IDS: Final = 1_000
"""From so many ids on a share is what it is; below, chance alone must be an unlikely reason for it."""

BY_CHANCE: Final = 0.01

_CODES_NAMED: Final = 3
_SOONER: Final = {
    "run": "sweep every minute",
    "sweep": "sweep more often, or at a higher max_tps",
    "import": "the backend has to read them sooner",
}


@dataclass(frozen=True)
class Limits:
    """The keys of `[alerts]` that one record can be held to. Shares from 0 to 1."""

    max_error_share: float
    max_expired_share: float
    max_not_found_share: float
    min_requested: int


def reasons(row: Mapping[str, Any], limits: Limits) -> list[str]:
    """What a `runs` row says against the limits, a plain sentence each.

    Shares are of all requested ids in a `run`, which accounts for the whole manifest, and of the ids that were still
    open in a `sweep` or an `import`, which come by every minute with what is new. A run that did not end by itself is
    not judged: shares of a part say nothing, and its own error is told.
    """
    if not row["completed"]:
        return []
    found = []
    is_run = row["command"] == "run"
    if is_run and row["requested"] < limits.min_requested:
        rejected = f" and {row['rejected']:,} malformed lines" if row["rejected"] else ""
        found.append(
            f"the manifest had {row['requested']:,} ids{rejected} (alerts.min_requested = {limits.min_requested:,}): "
            "is it whole?"
        )
    of = row["requested"] if is_run else row["requested"] - row["already_final"]
    outcomes = dict(row["by_outcome"] or ())
    errors = {name: count for name, count in outcomes.items() if _is_error(name)}
    if row["not_asked"]:
        errors[NOT_ASKED] = row["not_asked"]
    counted = [
        (sum(errors.values()), "max_error_share", f"ended in an error: {_most_common(errors)}"),
        (outcomes.get("EXPIRED", 0), "max_expired_share", f"were EXPIRED: {_SOONER[row['command']]}"),
        (
            sum(outcomes.get(name, 0) for name in NO_SUCH_SESSION),
            "max_not_found_share",
            "are unknown to Rekognition: is this their account and region, and were they asked in time?",
        ),
    ]
    for count, key, what in counted:
        limit = getattr(limits, key)
        if exceeds(count, of, limit):
            became, colon, more = what.partition(":")
            found.append(
                f"{_percent(count / of)} of {of:,} ids {became} (alerts.{key} = {_percent(limit)}){colon}{more}"
            )
    return found


def exceeds(count: int, of: int, limit: float) -> bool:
    """Whether a share is above its limit, and not by the chance that few ids bring with them.

    Below 1,000 ids: a run whose ids miss with just the limit's probability has so many in less than 1 of 100 cases.
    """
    if not count or count / of <= limit:
        return False
    return limit == 0 or of >= MANY_IDS or 1 - binomial_cdf(count - 1, of, limit) < BY_CHANCE


def _is_error(outcome: str) -> bool:
    # A status is written IN_CAPITALS, one that this version does not know too; an error code is not.
    return not outcome.isupper() and outcome not in (*NO_SUCH_SESSION, NOT_ASKED)


def _most_common(counts: Mapping[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{name} {count:,}" for name, count in most[:_CODES_NAMED])
    return named + (", …" if len(most) > _CODES_NAMED else "")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if 100 * share < 10 else f"{100 * share:.1f} %"
