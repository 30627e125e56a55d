"""What goes wrong and what is slow: pure functions of (seed, session id, ask number).

Asks are numbered from 1. `depends_on_ask` says for which ids the number matters at all, so that the server
counts those alone and can be asked for millions of others without keeping anything about them.
"""

from collections.abc import Mapping

from liveness_etl.local.config import Fault, FaultScript, LocalConfig
from liveness_etl.local.sessions import draw, fraction

_LATENCY_SPREAD = 0.25  # sigma of the log-normal around the median
_TAIL_AT_MOST = 10.0


def fault_at(config: LocalConfig, session_id: str, ask: int) -> Fault | None:
    """The fault that this ask meets, None for an honest answer."""
    script = _script(config, session_id)
    if script is not None:
        if isinstance(script, str | Mapping):
            return script
        return script[ask - 1] if ask <= len(script) else None
    if not _is_struck(config, session_id):
        return None
    chance = draw(config.seed, "fault", session_id)
    kinds = [chance.choice(config.fault_kinds) for _ in range(chance.choice((1, 2)))]
    return kinds[ask - 1] if ask <= len(kinds) else None


def delay_seconds(config: LocalConfig, session_id: str, ask: int) -> float:
    """How long this ask takes: log-normal around the median, Pareto where it falls into the tail."""
    if _is_slow(config, session_id, ask):
        chance = draw(config.seed, "tail", session_id, str(ask))
        return config.latency_tail_seconds * min(_TAIL_AT_MOST, chance.paretovariate(2))
    if config.latency_seconds == 0:
        return 0.0
    chance = draw(config.seed, "latency", session_id, str(ask))
    return config.latency_seconds * chance.lognormvariate(0, _LATENCY_SPREAD)


def depends_on_ask(config: LocalConfig, session_id: str) -> bool:
    """Whether a later ask may go otherwise than the first."""
    return _script(config, session_id) is not None or _is_struck(config, session_id) or _is_slow(config, session_id, 1)


def _script(config: LocalConfig, session_id: str) -> FaultScript | None:
    return config.faults.get(session_id, config.faults.get("*")) if config.faults else None


def _is_struck(config: LocalConfig, session_id: str) -> bool:
    return config.fault_share > 0 and fraction(config.seed, "struck", session_id) < config.fault_share


def _is_slow(config: LocalConfig, session_id: str, ask: int) -> bool:
    share = config.latency_tail_share
    return share > 0 and fraction(config.seed, "slow", session_id, str(ask)) < share
