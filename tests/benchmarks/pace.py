"""The figures of the contract's section 'Pace', over real HTTP, with LocalRekognition as the judge.

    python -m tests.benchmarks.pace [SCENARIO …] [--seconds 60] [--plot FILE.svg]

Server and client are processes of their own. The server answers after 40 ms (median; 1 % of ids wait 1 to 10 s where
no other client is compared), enforces its limit with a burst of 0.1 s, and has 9 % of ids meet a fault on their first
one or two asks: every kind that asking again gets over, stalls of 1 s instead of 10. The client is a whole
`liveness-etl run`. Shares are measured as `judge.Seen` says: whole seconds, from the seventh of the run (its first is
not whole) to the one before the last first call of an id ('none': that was sooner). 'halved' and `--plot` halve the
limit for the middle third. Prints a JSON line per measurement, then a table with the contract's bar beside each
figure; asserts nothing, for other work on the machine shows in every figure.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from liveness_etl.local import session_ids
from tests.benchmarks.clients import ADAPTIVE, CLIENTS, LEGACY, STANDARD_10, Client
from tests.benchmarks.judge import FROM_SECOND, Judge, Seen, judge, watch
from tests.benchmarks.pace_plot import Curve, draw

OUTCOMES = {"SUCCEEDED": 0.95, "FAILED": 0.05}  # every id has an answer to bring back
SERVER = {
    "latency_seconds": 0.04,
    "fault_share": 0.09,
    "stall_seconds": 1.0,
    "outcome_shares": OUTCOMES,
}
TAIL = {"latency_tail_share": 0.01}
CALLS_PER_ID = 1.12
BACK_SHARE = 0.95
COMPARED = ("clients", "plot")
"""Several clients, each against a fresh server with the same ids and no slow tail."""
CLIENT_IDS = 1_500


@dataclass(frozen=True)
class Scenario:
    """Rates in calls a second, of each source; `runs` share the ceiling evenly, with a manifest each."""

    limit: float
    ceiling: float
    least_share: float
    most_rejected: float
    runs: int = 1
    sources: int = 1
    halved: bool = False

    def ids_per_source(self, seconds: float) -> int:
        return int(seconds * self.limit * (5 / 6 if self.halved else 1) / CALLS_PER_ID)


SCENARIOS = {
    "equal-25": Scenario(25, 25, 0.98, 0.01),
    "equal-50": Scenario(50, 50, 0.98, 0.01),
    "equal-250": Scenario(250, 250, 0.98, 0.01),
    "slices-500": Scenario(500, 500, 0.98, 0.01, runs=2),
    "twice": Scenario(50, 100, 0.92, 0.05),
    "halved": Scenario(50, 50, 0.90, 0.05, halved=True),
    "sources-10": Scenario(25, 25, 0.98, 0.01, sources=10),
}


@dataclass(frozen=True)
class Measured:
    """What the judges of a scenario (one per source) saw of `who`, and what came back to it."""

    name: str
    scenario: Scenario
    who: str
    seen: list[Seen]
    ids: int
    answered: int
    halved_at: int

    def row(self) -> dict[str, Any]:
        """JSON-ready. `seconds` run from the first call to the last."""
        shares = [share for seen in self.seen if (share := seen.share()) is not None]
        seconds = max(len(seen.accepted) for seen in self.seen)
        requests = sum(seen.requests for seen in self.seen)
        return {
            "scenario": self.name,
            "client": self.who,
            "limit_tps": self.scenario.limit * self.scenario.sources,
            "ceiling_tps": self.scenario.ceiling * self.scenario.sources if self.who == "ours" else None,
            "share_of_limit": round(fmean(shares), 4) if shares else None,
            "rejected_share": round(sum(seen.throttled for seen in self.seen) / max(1, requests), 4),
            "requests": requests,
            "rejected": sum(seen.throttled for seen in self.seen),
            "faults": sum(seen.faults for seen in self.seen),
            "ids": self.ids,
            "without_answer": self.ids - self.answered,
            "seconds": seconds,
            "answers_per_second": round(self.answered / seconds, 1),
            "share_by_third": self._share_by_third() if self.scenario.halved else None,
            "back_seconds": self._back_seconds() if self.scenario.halved else None,
        }

    def _share_by_third(self) -> list[float | None]:
        """Before the limit is halved, while it is, and from then on."""
        cuts = FROM_SECOND, self.halved_at, 2 * self.halved_at, self.seen[0].until
        shares = [self.seen[0].share(first, last) for first, last in pairwise(cuts)]
        return [None if share is None else round(share, 3) for share in shares]

    def _back_seconds(self) -> int | None:
        """From when the limit was lifted to the end of the first second at 95 % of the ceiling."""
        seen, lifted = self.seen[0], 2 * self.halved_at
        enough = BACK_SHARE * self.scenario.ceiling
        back = (second for second in range(lifted, seen.until) if seen.accepted[second] >= enough)
        return next((second + 1 - lifted for second in back), None)


def measure(name: str, scenario: Scenario, ids_per_source: int, seconds: int, client: Client | None = None) -> Measured:
    """Run it once, against fresh servers: liveness-etl, or `client` with 32 threads and no ceiling."""
    ids = list(session_ids(7, ids_per_source * scenario.sources))
    server = SERVER if name in COMPARED else SERVER | TAIL
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        judges = [stack.enter_context(judge(ids_per_source, scenario.limit, **server)) for _ in range(scenario.sources)]
        folder = Path(temporary)
        commands = _client_command(folder, client, judges[0], ids) if client else _runs(folder, scenario, judges, ids)
        outputs = watch(commands, judges, _changes(scenario, seconds), within_seconds=120 + 10 * seconds)
        answered = (
            json.loads(outputs[0]).get("answer", 0)
            if client
            else sum(_answers(json.loads(path.read_text())) for path in folder.glob("summary-*.json"))
        )
        who = client.name if client else "ours"
        return Measured(name, scenario, who, [each.seen() for each in judges], len(ids), answered, seconds // 3)


def _changes(scenario: Scenario, seconds: int) -> list[tuple[int, float]]:
    third = seconds // 3
    return [(third, scenario.limit / 2), (2 * third, scenario.limit)] if scenario.halved else []


def _runs(folder: Path, scenario: Scenario, judges: Sequence[Judge], ids: Sequence[str]) -> list[list[str]]:
    config = folder / "config.toml"
    config.write_text(
        "".join(
            f'[sources.s{number}]\nregion = "us-east-1"\nendpoint_url = "{each.url}"\nmax_tps = {scenario.ceiling}\n'
            for number, each in enumerate(judges)
        )
    )
    lines = [f"{session_id},s{number % len(judges)}\n" for number, session_id in enumerate(ids)]
    commands = []
    for run in range(scenario.runs):
        manifest = folder / f"manifest-{run}.csv"
        manifest.write_text("session_id,source\n" + "".join(lines[run :: scenario.runs]))
        commands.append(
            [
                *(sys.executable, "-m", "liveness_etl", "run", str(manifest), "--date", "2026-01-31"),
                *("--output", str(folder / "out"), "--config", str(config), "--share", str(1 / scenario.runs)),
                *("--summary", str(folder / f"summary-{run}.json"), "--quiet"),
            ]
        )
    return commands


def _client_command(folder: Path, client: Client, judge: Judge, ids: Sequence[str]) -> list[list[str]]:
    path = folder / "ids.txt"
    path.write_text("\n".join(ids))
    how = ("--mode", client.mode, "--attempts", str(client.attempts))
    return [[sys.executable, "-m", "tests.benchmarks.clients", judge.url, str(path), *how]]


def _answers(record: dict[str, Any]) -> int:
    return sum(count for outcome, count in dict(record["by_outcome"]).items() if outcome in OUTCOMES)


def _table(measured: Sequence[Measured]) -> str:
    form = "{:<11} {:<28} {:>15} {:>17} {:>9} {:>10} {:>7}"
    lines = [form.format("scenario", "client", "of the limit", "rejected calls", "no answer", "answers/s", "back")]
    for each in measured:
        row, bar = each.row(), each.scenario
        share = "none" if row["share_of_limit"] is None else f"{row['share_of_limit']:.1%}"
        back = "" if row["back_seconds"] is None else f"{row['back_seconds']} s"
        lines.append(
            form.format(
                row["scenario"],
                row["client"],
                f"{share} (≥{bar.least_share:.0%})" if each.who == "ours" else share + " " * 7,
                f"{row['rejected_share']:.2%} (≤{bar.most_rejected:.0%})"
                if each.who == "ours"
                else f"{row['rejected_share']:.2%}" + " " * 6,
                row["without_answer"],
                row["answers_per_second"],
                back,
            )
        )
    return "\n".join(lines)


def main() -> None:
    names = (*SCENARIOS, "clients")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"default: all of {', '.join(names)}")
    parser.add_argument("--seconds", type=int, default=60, help="about how long each one takes")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw 'halved': ours and boto3's three modes")
    arguments = parser.parse_args()
    if unknown := set(arguments.scenarios) - set(names):
        parser.error(f"there is no scenario named {', '.join(sorted(unknown))}")
    measured: list[Measured] = []

    def take(name: str, scenario: Scenario, ids: int, client: Client | None = None) -> Measured:
        measured.append(measure(name, scenario, ids, arguments.seconds, client))
        print(json.dumps(measured[-1].row() | {"cores": os.cpu_count()}), flush=True)
        return measured[-1]

    for name in arguments.scenarios or (() if arguments.plot else names):
        if name == "clients":
            for client in (None, *CLIENTS):
                take(name, SCENARIOS["equal-50"], CLIENT_IDS, client)
        else:
            take(name, SCENARIOS[name], SCENARIOS[name].ids_per_source(arguments.seconds))
    if arguments.plot:
        halved = SCENARIOS["halved"]
        ids = halved.ids_per_source(arguments.seconds)
        curves = [take("plot", halved, ids, client) for client in (None, ADAPTIVE, STANDARD_10, LEGACY)]
        arguments.plot.write_text(draw([Curve(each.who, each.seen[0], each.ids, each.answered) for each in curves]))
    print(_table(measured))


if __name__ == "__main__":
    main()
