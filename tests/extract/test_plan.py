"""Which ids are asked, and in which order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from liveness_etl.engine import open_engine
from liveness_etl.extract.ask import Ask
from liveness_etl.extract.ceiling import Ceiling
from liveness_etl.extract.manifest import IDS
from liveness_etl.extract.plan import (
    Plan,
    PlanOptions,
    SourcePlan,
    plan_manifest,
)
from liveness_etl.extract.planned import expired_by_their_turn, read_asks
from liveness_etl.extract.prior import PRIOR_COLUMNS
from liveness_etl.transform.tables import LANDING
from tests.running import DT, ids

TTL = 180
DAY = 86_400
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
REGIONS = {"eu": "eu-west-1", "us": "us-east-1"}
CEILINGS = {"eu": Ceiling(2.5, "as documented"), "us": Ceiling(50.0, "configured max_tps")}
ceiling_of = CEILINGS.__getitem__


@dataclass(frozen=True)
class Line:
    """A manifest line; `created` in seconds after noon."""

    session_id: str
    created: int | None = None
    source: str = "eu"
    dt: date = DT
    attributes: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Landed:
    """A landing row; times in seconds after noon, `read` None for an id that was never asked."""

    status: str | None = None
    error_code: str | None = None
    read: int | None = 0
    created: int | None = None
    source: str = "eu"
    region: str = "eu-west-1"
    dt: date = DT


@dataclass(frozen=True)
class Planned:
    """A plan, and the asks of each source as they would be swept."""

    plan: Plan
    asks: Mapping[str, list[Ask]] = field(default_factory=dict)

    def ids(self, source: str = "eu") -> list[str]:
        return [ask.session_id for ask in self.asks[source]]


def at(seconds: int | None) -> datetime | None:
    return None if seconds is None else NOON + timedelta(seconds=seconds)


def chunk(lines: Iterable[Line]) -> pa.RecordBatch:
    rows = [
        {
            "session_id": line.session_id,
            "created_at": at(line.created),
            "source": line.source,
            "dt": line.dt,
            "line_number": number,
            "attributes": line.attributes,
        }
        for number, line in enumerate(lines, 2)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=IDS)


def landing_rows(landed: Iterable[tuple[str, Landed]]) -> list[dict[str, object]]:
    return [
        dict.fromkeys(LANDING.names)
        | {
            "session_id": session_id,
            "source": row.source,
            "region": row.region,
            "status": row.status,
            "error_code": row.error_code,
            "created_at": at(row.created),
            "fetched_at": at(row.read),
            "attempts": 1,
            "images": [],
            "feedback": [],
            "run_id": "run",
            "dt": row.dt,
        }
        for session_id, row in landed
    ]


def plan(
    *chunks: Sequence[Line],
    landed: Iterable[tuple[str, Landed]] = (),
    ask_again: tuple[str, ...] = (),
    rejected: int = 0,
    now: datetime = NOON,
    forgotten: Iterable[str] = (),
) -> Planned:
    """Plan the chunks of a manifest after the landed rows, on a real DuckDB."""
    rows = landing_rows(landed)

    def read_prior(dt: date, columns: Sequence[str]) -> pa.RecordBatchReader:
        wanted = pa.schema([LANDING.field(name).remove_metadata() for name in columns or LANDING.names])
        found = [{name: row[name] for name in wanted.names} for row in rows if row["dt"] == dt]
        return pa.Table.from_pylist(found, schema=wanted).to_reader()

    with TemporaryDirectory() as name:
        folder = Path(name)
        with open_engine(folder, "500MB") as engine:
            made = plan_manifest(
                engine,
                [(chunk(lines), len(lines) + rejected, rejected) for lines in chunks],
                read_prior,
                folder,
                PlanOptions(REGIONS, ceiling_of, now, TTL, ask_again),
                [sha256(one.encode()).hexdigest() for one in forgotten],
            )
        return Planned(
            made,
            {source.source: list(read_asks(pa.OSFile(str(folder / source.source)))) for source in made.sources},
        )


# The contract's rules of finality, as one reads them


def rank(row: Landed) -> int:
    if row.error_code == "NotAsked":
        return -1
    if row.status in ("SUCCEEDED", "FAILED"):
        return 4 if row.error_code == "ImageNotStored" else 5
    if row.status == "EXPIRED":
        return 3
    if row.status is not None:
        return 1
    return 2 if row.error_code in ("SessionNotFoundException", "InvalidParameterException") else 0


def is_final(line: Line, rows: Sequence[Landed]) -> bool:
    """'Final, that is not asked again', sentence by sentence."""
    reads = [row.read for row in rows if rank(row) >= 1 and row.read is not None]
    for row in rows:
        created = row.created if line.created is None else line.created
        same = row.source == line.source and row.region == REGIONS[line.source]
        if rank(row) == 5:
            return True
        if rank(row) == 3 and same:
            return True
        if rank(row) == 2 and same and (created is None or (row.read or 0) > created + TTL):
            return True
        if rank(row) in (4, 1) and row.read is not None:
            if any(rank(later) in (2, 3) and (later.read or 0) > row.read for later in rows):
                return True
            if row.read > created + 2 * TTL if created is not None else row.read >= min(reads) + DAY:
                return True
    return False


def winner(rows: Sequence[Landed]) -> Landed:
    """'One row per id', for rows without images and with different times."""
    best = max(map(rank, rows))
    ranked = [row for row in rows if rank(row) == best]
    if best >= 4:
        return min(ranked, key=lambda row: row.read or 0)
    return max(ranked, key=lambda row: -1_000_000 if row.read is None else row.read)


OUTCOMES = st.sampled_from(
    [
        ("SUCCEEDED", None),
        ("FAILED", None),
        ("SUCCEEDED", "ImageNotStored"),
        ("EXPIRED", None),
        (None, "SessionNotFoundException"),
        (None, "InvalidParameterException"),
        ("CREATED", None),
        ("SOMETHING_NEW", None),
        (None, "ThrottlingException"),
        (None, "NotAsked"),
    ]
)
AGES = [0, 1, TTL - 1, TTL, TTL + 1, 2 * TTL - 1, 2 * TTL, 2 * TTL + 1, DAY - 1, DAY, DAY + 1, 3 * DAY]


@st.composite
def histories(draw: st.DrawFn) -> tuple[Line, list[Landed]]:
    """A line and what was landed for its id, each row at another time, some of it elsewhere."""
    line = Line("", draw(st.sampled_from([None, 0])), draw(st.sampled_from(sorted(REGIONS))))
    rows = []
    for read in draw(st.lists(st.sampled_from(AGES), max_size=4, unique=True)):
        status, error_code = draw(OUTCOMES)
        source = draw(st.sampled_from([line.source, line.source, "eu", "us"]))
        rows.append(
            Landed(
                status,
                error_code,
                None if error_code == "NotAsked" else read,
                draw(st.sampled_from([None, 0])),
                source,
                draw(st.sampled_from([REGIONS[source], REGIONS[source], "ap-south-1"])),
            )
        )
    return line, rows


@given(st.lists(histories(), min_size=1, max_size=20), st.sampled_from([(), ("EXPIRED", "SUCCEEDED"), ("CREATED",)]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_id_is_asked_exactly_when_the_contract_does_not_call_it_final(
    drawn: list[tuple[Line, list[Landed]]], ask_again: tuple[str, ...]
) -> None:
    """Ranks, source and region, both ttls, the day after the first read, later rows, and --ask-again."""
    named = [
        (replace(line, session_id=session_id), rows)
        for (line, rows), session_id in zip(drawn, ids(len(drawn)), strict=True)
    ]
    planned = plan(
        [line for line, _ in named],
        landed=[(line.session_id, row) for line, rows in named for row in rows],
        ask_again=ask_again,
        now=NOON + timedelta(days=4),
    )
    expected = {
        line.session_id: rows
        for line, rows in named
        if not is_final(line, rows)
        or (winning := winner(rows)).status in ask_again
        or (winning.status is None and winning.error_code in ask_again)
    }
    found = {ask.session_id: ask for asks in planned.asks.values() for ask in asks}
    assert found.keys() == expected.keys()
    assert planned.plan.already_final == len(named) - len(expected)
    for session_id, rows in expected.items():
        reads = [(at(row.read) or NOON).timestamp() for row in rows if rank(row) >= 1]
        assert found[session_id].prior_rank == (max(map(rank, rows)) if rows else None)
        assert found[session_id].first_read == (min(reads) if reads else None)


ONE, TWO, THREE, FOUR, FIVE, SIX = ids(6)


@pytest.mark.parametrize(
    ("landed", "is_asked"),
    [
        ([Landed("SUCCEEDED", read=100)], False),
        ([Landed("SUCCEEDED", "ImageNotStored", read=100)], True),
        ([Landed("SUCCEEDED", "ImageNotStored", read=2 * TTL + 1)], False),
        ([Landed("SUCCEEDED", "ImageNotStored", read=100), Landed("EXPIRED", read=200, region="us-east-1")], False),
        ([Landed("EXPIRED", read=200)], False),
        ([Landed("EXPIRED", read=200, region="us-east-1")], True),
        ([Landed("EXPIRED", read=200, source="us")], True),
        ([Landed(None, "SessionNotFoundException", read=TTL)], True),
        ([Landed(None, "SessionNotFoundException", read=TTL + 1)], False),
        ([Landed("CREATED", read=2 * TTL)], True),
        ([Landed("CREATED", read=2 * TTL + 1)], False),
        ([Landed("CREATED", read=100), Landed(None, "SessionNotFoundException", read=120)], False),
        ([Landed(None, "SessionNotFoundException", read=100), Landed("CREATED", read=120)], True),
        ([Landed(None, "AccessDeniedException", read=3 * DAY)], True),
        ([Landed(None, "NotAsked", read=None)], True),
        ([Landed("SUCCEEDED", read=100, dt=date(2026, 2, 28))], True),
    ],
)
def test_finality_case_by_case(landed: list[Landed], is_asked: bool) -> None:
    """One id, created at noon in eu-west-1; rows of another partition do not count."""
    assert plan([Line(ONE, 0)], landed=[(ONE, row) for row in landed]).ids() == ([ONE] if is_asked else [])


@pytest.mark.parametrize(("read", "is_asked"), [(DAY - 1, True), (DAY, False)])
def test_without_created_at_a_pending_id_is_final_once_read_a_day_after_the_first_read(
    read: int, is_asked: bool
) -> None:
    """The first read stands in for the unknown age."""
    landed = [(ONE, Landed("CREATED", read=0)), (ONE, Landed("CREATED", read=read))]
    assert plan([Line(ONE)], landed=landed).ids() == ([ONE] if is_asked else [])


def test_ask_again_names_the_outcome_that_won() -> None:
    """An id that SUCCEEDED is asked for SUCCEEDED, not for the EXPIRED that a later read got."""
    landed = [(ONE, Landed("SUCCEEDED", read=10)), (ONE, Landed("EXPIRED", read=500)), (TWO, Landed("EXPIRED", read=9))]
    lines = [Line(ONE, 0), Line(TWO, 0)]
    assert plan(lines, landed=landed).ids() == []
    assert plan(lines, landed=landed, ask_again=("EXPIRED",)).ids() == [TWO]
    assert plan(lines, landed=landed, ask_again=("SUCCEEDED", "EXPIRED")).ids() == [ONE, TWO]
    assert plan(lines, landed=landed, ask_again=("FAILED",)).ids() == []


def test_the_first_line_of_a_repeated_id_wins() -> None:
    """Across chunks, sources and partitions; the others are counted as duplicates."""
    first = Line(ONE, 10, "us", attributes={"try": "1"})
    planned = plan(
        [first, Line(TWO, 0)],
        [Line(ONE, 20, "eu", date(2026, 3, 2), {"try": "2"}), Line(TWO, 0), Line(TWO, 5)],
    )
    assert planned.plan.duplicates == 3
    assert planned.asks == {
        "eu": [Ask(TWO, DT, NOON.timestamp())],
        "us": [Ask(ONE, DT, NOON.timestamp() + 10, (("try", "1"),))],
    }


def test_every_line_is_accounted_for() -> None:
    """lines = requested + duplicates + rejected + forgotten, and requested is summed over sources."""
    made = plan(
        [Line(ONE), Line(ONE), Line(TWO, source="us")],
        [Line(THREE, dt=date(2026, 3, 2))],
        rejected=2,
        landed=[(ONE, Landed("SUCCEEDED"))],
    ).plan
    assert made == Plan(
        lines=8,
        requested=3,
        duplicates=1,
        rejected=4,
        forgotten=0,
        sources=(SourcePlan("eu", 2, 1, CEILINGS["eu"]), SourcePlan("us", 1, 1, CEILINGS["us"])),
        partitions=(DT, date(2026, 3, 2)),
    )
    assert made.lines == made.requested + made.duplicates + made.rejected + made.forgotten
    assert made.already_final == 1


def test_an_empty_manifest_is_an_empty_plan() -> None:
    """No source, no partition, nothing to ask."""
    assert plan([]).plan == Plan(0, 0, 0, 0, 0, (), ())
    assert plan([], rejected=3).plan == Plan(3, 0, 0, 3, 0, (), ())


def test_live_ids_come_first_and_the_soonest_to_expire_first_of_all() -> None:
    """Then those of unknown age, in the manifest's order; then the expired, youngest first."""
    lines = [
        Line(ONE, -TTL - 100),
        Line(TWO, -10),
        Line(THREE),
        Line(FOUR, -TTL + 1),
        Line(FIVE, -TTL),
        Line(SIX),
    ]
    assert plan(lines).ids() == [FOUR, TWO, THREE, SIX, FIVE, ONE]


def test_without_created_at_the_manifests_order_is_kept() -> None:
    """Over many chunks, too."""
    many = ids(30_000, seed=2)
    assert (
        plan(*([Line(one) for one in many[start : start + 7_000]] for start in range(0, 30_000, 7_000))).ids() == many
    )


def test_order_and_first_lines_hold_in_a_manifest_that_is_planned_range_by_range() -> None:
    """Nothing is lost or doubled at the edges of the ranges, and the order holds across them."""
    number = 400_000
    names = [f"{place * 0x9E3779B97F4A7C15 % 2**64:016x}0000400080000000" for place in range(number)]
    names = [f"{n[:8]}-{n[8:12]}-{n[12:16]}-{n[16:20]}-{n[20:]}" for n in names]
    ages = [(None, place % 7_000, 7_000)[place % 3] for place in range(number)]
    lines = [Line(name, None if age is None else -age) for name, age in zip(names, ages, strict=True)]
    made = plan(lines[:250_000], lines[250_000:] + lines[::100])
    assert (made.plan.requested, made.plan.duplicates) == (number, number // 100)

    def turn(place: int) -> tuple[int, int]:
        age = ages[place]
        if age is None:
            return 1, place
        return (0, -age) if age < TTL else (2, age)

    assert made.ids() == [names[place] for place in sorted(range(number), key=turn)]


def test_erased_ids_are_not_asked_and_every_line_of_them_is_counted() -> None:
    """As forgotten and not as duplicates; the sum of the lines holds, and their partition is not the run's."""
    one, two, three = ids(3)
    lines = [Line(one), Line(two), Line(one), Line(two), Line(three, dt=date(2026, 3, 2)), Line(one, source="us")]
    planned = plan(lines, rejected=2, forgotten=[one, three, ids(4)[3]])
    made = planned.plan
    assert planned.ids() == [two]
    assert (made.lines, made.requested, made.duplicates, made.rejected, made.forgotten) == (8, 1, 1, 2, 4)
    assert made.partitions == (DT,)
    assert [source.source for source in made.sources] == ["eu"]


def test_manifest_of_erased_ids_only_is_an_empty_run() -> None:
    """Nothing to ask, and no source to open."""
    made = plan([Line(one) for one in ids(3)], forgotten=ids(3)).plan
    assert (made.forgotten, made.requested, made.sources, made.partitions) == (3, 0, (), ())


@pytest.fixture(scope="module")
def plan_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The plan of 40,000 ids: alive for 1 to 180 s more, of unknown age, and expired."""
    folder = tmp_path_factory.mktemp("plan")
    ages = [*(-number % TTL for number in range(30_000)), *[None] * 5_000, *range(TTL, TTL + 5_000)]
    lines = [Line(one, None if age is None else -age) for one, age in zip(ids(40_000, seed=3), ages, strict=True)]
    nothing = pa.schema([LANDING.field(name).remove_metadata() for name in PRIOR_COLUMNS]).empty_table()
    with open_engine(folder, "500MB") as engine:
        plan_manifest(
            engine,
            [(chunk(lines), len(lines), 0)],
            lambda dt, columns: nothing.to_reader(),
            folder,
            PlanOptions(REGIONS, ceiling_of, NOON, TTL),
        )
    return str(folder / "eu")


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_slices_partition_the_ids_and_each_keeps_the_order(plan_file: str, parts: int) -> None:
    """Every id in exactly one slice, and the urgent ones spread evenly over all of them."""
    whole = list(read_asks(pa.OSFile(plan_file)))
    sliced = [list(read_asks(pa.OSFile(plan_file), part=part, parts=parts)) for part in range(parts)]
    assert {ask.session_id for ask in whole} == set(ids(40_000, seed=3))
    assert sum(map(len, sliced)) == len(whole) == 40_000
    place = {ask.session_id: number for number, ask in enumerate(whole)}
    for asks in sliced:
        places = [place[ask.session_id] for ask in asks]
        assert {later - earlier for earlier, later in pairwise(places)} == {parts}


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("late_from", [0, 10_000, 29_999], ids="late from {}".format)
def test_an_id_that_expired_while_it_waited_lets_those_go_first_that_may_be_alive(
    plan_file: str, parts: int, late_from: int
) -> None:
    """Time jumps by a minute after some turns: all ids get a turn, first those alive then, and of the expired the
    youngest first."""
    for part in range(parts):
        turns = [0]

        def clock(turns: list[int] = turns) -> float:
            turns[0] += 1
            return NOON.timestamp() + (60 if turns[0] * parts > late_from else 0)

        asks = list(read_asks(pa.OSFile(plan_file), part=part, parts=parts, ttl_seconds=TTL, clock=clock))
        assert {ask.session_id for ask in asks} == {
            ask.session_id for ask in read_asks(pa.OSFile(plan_file), part=part, parts=parts)
        }
        late = NOON.timestamp() + 60
        waiting = asks[late_from // parts :]
        groups = [1 if ask.created_at is None else 2 * ask.expired(late, TTL) for ask in waiting]
        assert groups == sorted(groups)
        for group, sign in ((0, 1), (2, -1)):
            born = [sign * (ask.created_at or 0) for ask, its in zip(waiting, groups, strict=True) if its == group]
            assert born == sorted(born)


@pytest.mark.parametrize("tps", [40.0, 100.0])
def test_the_forecast_counts_ids_that_expire_before_their_turn(plan_file: str, tps: float) -> None:
    """As many as a sweep at that pace asks too late, those already expired included."""
    now = [NOON.timestamp()]
    too_late = 0
    for ask in read_asks(pa.OSFile(plan_file), ttl_seconds=TTL, clock=lambda: now[0]):
        too_late += ask.expired(now[0], TTL)
        now[0] += 1 / tps
    found = expired_by_their_turn(pa.OSFile(plan_file), tps=tps, ttl_seconds=TTL, now=NOON.timestamp())
    assert found == pytest.approx(too_late, abs=2)
    assert 5_000 < found < 35_000
