"""The figures of a report against numbers counted from the made rows, not by the report's own SQL."""

import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from liveness_etl.analysis import facts, people
from liveness_etl.analysis.facts import EDGES
from liveness_etl.analysis.figure import Report
from liveness_etl.analysis.report import ReportOptions, make_report
from liveness_etl.analysis.statistics import subject_bootstrap
from liveness_etl.storage_s3 import S3Store
from tests.analysis.made_tables import DAY, session, write_run, write_tables

HOSTILE = "</script><script>alert(1)</script><!--\u2028&lt;"


def made_sessions() -> list[dict[str, Any]]:
    """3,000 sessions of 30 days: scores crowd at 100, some fail, expire or are denied, some people repeat."""
    chance = random.Random(7)
    made = []
    for number in range(3000):
        dt = DAY - timedelta(days=number % 30)
        kind = chance.random()
        columns: dict[str, Any] = {"confidence": 100 - chance.expovariate(0.8)}
        if kind < 0.1:
            columns = {"confidence": chance.uniform(0, 90), "feedback": ("FACE_NOT_ALIGNED", "FACE_NOT_ALIGNED")}
        elif kind < 0.2:
            columns = {"status": "FAILED", "confidence": None, "boxes": ()}
        elif kind < 0.3:
            columns = {"status": "EXPIRED", "confidence": None, "challenge": None, "sdk_type": None, "boxes": ()}
        columns["attributes"] = [("user", f"user-{chance.randrange(900)}")]
        if number % 3 == 0:
            columns["challenge"] = columns.get("challenge", ("FaceMovementAndLightChallenge", "2.0.0"))
        made.append(session(number, dt, **columns))
    return made


@pytest.fixture(scope="module")
def sessions() -> list[dict[str, Any]]:
    """The rows that the report below is about."""
    return made_sessions()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, sessions: list[dict[str, Any]]) -> Report:
    """A report on all their days, with people told apart."""
    output = tmp_path_factory.mktemp("output")
    write_tables(output, sessions)
    options = ReportOptions(first=DAY - timedelta(days=29), last=DAY, subject_attribute="user")
    return make_report(str(output), options)


def rows_of(report: Report, figure_id: str) -> list[dict[str, Any]]:
    """A figure's table as dictionaries."""
    figure = next(figure for section in report.sections for figure in section.figures if figure.id == figure_id)
    return [dict(zip([c.field for c in figure.table.columns], row, strict=True)) for row in figure.table.rows]


def notes_of(report: Report, section_id: str) -> str:
    """A section's notes as one text."""
    return " ".join(next(section.notes for section in report.sections if section.id == section_id))


def passes(made: dict[str, Any], threshold: float) -> bool:
    """What a pass is."""
    return made["status"] == "SUCCEEDED" and made["confidence"] is not None and made["confidence"] >= threshold


def by_person(sessions: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Each person's sessions, in the order given."""
    found: dict[str, list[dict[str, Any]]] = {}
    for made in sessions:
        found.setdefault(made["attributes"][0][1], []).append(made)
    return list(found.values())


def test_totals_by_outcome_are_those_of_the_rows(report: Report, sessions: list[dict[str, Any]]) -> None:
    """The last row of the table sums all days."""
    totals = rows_of(report, "outcomes")[-1]
    counted = Counter(made["outcome"] for made in sessions)
    assert totals["requested"] == 3000
    assert sorted(value for field, value in totals.items() if field.startswith("outcome")) == sorted(counted.values())


def test_pass_counts_are_exact_at_every_threshold_told(report: Report, sessions: list[dict[str, Any]]) -> None:
    """Each threshold of the slider, and no two of them fewer than ten sessions apart."""
    assert report.explorer is not None
    thresholds, passed = report.explorer["thresholds"], report.explorer["passed"]
    assert 80 in thresholds
    assert len(thresholds) > 50
    assert passed == [sum(passes(made, threshold) for made in sessions) for threshold in thresholds]
    steps = -np.diff(passed)
    assert all(step == 0 or step >= 10 for step in steps)


def test_rates_have_both_denominators_and_both_cases(report: Report, sessions: list[dict[str, Any]]) -> None:
    """Among scored, among requested (the worst case), and the best case for the unscored."""
    row = next(row for row in rows_of(report, "pass-rates") if row["threshold"] == 80)
    passed = sum(passes(made, 80) for made in sessions)
    scored = sum(made["confidence"] is not None for made in sessions)
    assert row["of_scored"] == pytest.approx(passed / scored)
    assert row["of_requested"] == pytest.approx(passed / 3000)
    assert row["best_case"] == pytest.approx((passed + 3000 - scored) / 3000)
    assert row["low"] < row["of_scored"] < row["high"]


def test_first_attempt_and_any_attempt_of_people(report: Report, sessions: list[dict[str, Any]]) -> None:
    """A person's first attempt is the earliest session; one without a score did not pass."""
    tries_of = by_person(sorted(sessions, key=lambda made: made["created_at"]))
    row = next(row for row in rows_of(report, "people") if row["threshold"] == 80)
    assert row["first"] == pytest.approx(sum(passes(tries[0], 80) for tries in tries_of) / len(tries_of))
    assert row["ever"] == pytest.approx(
        sum(any(passes(made, 80) for made in tries) for tries in tries_of) / len(tries_of)
    )


def test_intervals_draw_the_people_of_the_rows_again(report: Report, sessions: list[dict[str, Any]]) -> None:
    """The interval is that of the bootstrap over each person's sessions, scored or all."""
    tries_of = by_person(sessions)
    scored = [sum(made["confidence"] is not None for made in tries) for tries in tries_of]
    for row in rows_of(report, "people"):
        passed = [sum(passes(made, row["threshold"]) for made in tries) for tries in tries_of]
        for name, tried in (("scored", scored), ("requested", [len(tries) for tries in tries_of])):
            expected = subject_bootstrap(Counter(zip(passed, tried, strict=True)))
            assert (row[f"{name}_low"], row[f"{name}_high"]) == (expected.low, expected.high)


def test_ecdf_is_that_of_the_scores(report: Report, sessions: list[dict[str, Any]]) -> None:
    """At every score told, over all sessions and by challenge; no score is counted as zero."""
    scores = np.array([made["confidence"] for made in sessions if made["confidence"] is not None])
    for row in rows_of(report, "ecdf"):
        assert row["sessions"] == (scores < row["score"]).sum()
        assert row["below"] == pytest.approx((scores < row["score"]).mean())
    of_type = np.array(
        [made["confidence"] for made in sessions if made["confidence"] is not None and "Light" in made["challenge"][0]]
    )
    rows = [row for row in rows_of(report, "ecdf-challenge") if row["name"] == "FaceMovementAndLightChallenge 2.0.0"]
    assert rows
    assert all(row["sessions"] == (of_type < row["score"]).sum() for row in rows)


def test_histogram_counts_every_scored_session_once(report: Report, sessions: list[dict[str, Any]]) -> None:
    """Both histograms, and each bar holds nobody or at least ten."""
    scored = sum(made["confidence"] is not None for made in sessions)
    for name in ("histogram", "histogram-distance"):
        counts = [row["sessions"] for row in rows_of(report, name)]
        assert sum(counts) == scored
        assert all(count == 0 or count >= 10 for count in counts)


def test_quantiles_are_the_exact_ones(report: Report, sessions: list[dict[str, Any]]) -> None:
    """The median of each day; the 5 % quantile is left out, since fewer than ten of its 80 sessions are below."""
    for row in rows_of(report, "quantiles"):
        scores = [made["confidence"] for made in sessions if made["dt"].isoformat() == row["period"]]
        found = [score for score in scores if score is not None]
        assert row["p50"] == pytest.approx(np.quantile(found, 0.5), abs=0.0006)
        assert row["p05"] is None


def test_score_at_a_bin_edge_is_in_the_bin_that_begins_there(tmp_path: Path) -> None:
    """Scores at each edge, and just below it, where multiplying and rounding down goes wrong."""
    scores = [score for edge in EDGES[1:] for score in (edge, float(np.nextafter(edge, 0)))]
    write_tables(tmp_path, [session(number, confidence=score) for number, score in enumerate(scores)])
    report = make_report(str(tmp_path), ReportOptions(min_cell=1))
    for row in rows_of(report, "ecdf"):
        assert row["sessions"] == sum(score < row["score"] for score in scores)


def test_small_cells_are_nowhere_on_the_page(tmp_path: Path) -> None:
    """Three denied sessions show as <10, and the number of the others does not give them away."""
    made = [session(number, confidence=99 + number / 1000) for number in range(500)]
    made += [session(1000 + n, status=None, error_code="AccessDeniedException", confidence=None) for n in range(3)]
    write_tables(tmp_path, made)
    report = make_report(str(tmp_path), ReportOptions())
    row = rows_of(report, "outcomes")[-1]
    assert "<10" in row.values()
    assert row["requested"] == 503
    assert 500 not in row.values()
    assert report.explorer is not None
    assert report.explorer["scored"] is None
    assert "fewer than 10 AccessDeniedException" in report.headline.sentence


def test_headline_says_what_is_missing_and_that_a_run_was_killed(tmp_path: Path) -> None:
    """The operator's question in one sentence."""
    made = [session(number) for number in range(200)]
    made += [session(1000 + n, status=None, error_code="AccessDeniedException", confidence=None) for n in range(12)]
    write_tables(tmp_path, made)
    started = datetime(DAY.year, DAY.month, DAY.day, 23, tzinfo=UTC)
    write_run(tmp_path, "run-1", started, finished_at=None, completed=False, requested=212, not_asked=212)
    report = make_report(str(tmp_path), ReportOptions(timezone="Europe/Berlin"))
    assert report.headline.state == "incomplete"
    assert report.headline.sentence == (
        "2026-03-10: 200 of 212 requested have a final answer; 12 AccessDeniedException; 1 run killed or still at work."
    )
    run = rows_of(report, "runs")[0]
    assert run["state"].startswith("killed")
    assert run["started_at"] == "2026-03-11 00:00:00"


def test_runs_are_those_of_the_span_and_those_that_did_it_later(tmp_path: Path) -> None:
    """Sessions of March that a run of May has asked for: its record is among them, another run of that day is not."""
    write_tables(tmp_path, [session(number, run_id="20260502T030000-a") for number in range(20)])
    write_run(tmp_path, "20260311T020000-a", datetime(2026, 3, 11, 2, tzinfo=UTC))
    write_run(tmp_path, "20260312T020000-a", datetime(2026, 3, 12, 2, tzinfo=UTC))
    for run_id in ("20260502T030000-a", "20260502T040000-b"):
        write_run(tmp_path, run_id, datetime(2026, 5, 2, 3, tzinfo=UTC))
    shown = [row["run_id"] for row in rows_of(make_report(str(tmp_path), ReportOptions()), "runs")]
    assert shown == ["20260502T030000-a", "20260311T020000-a"]


def test_sessions_that_all_lack_a_score_make_a_report(tmp_path: Path) -> None:
    """Feedback and all: no share is told of none."""
    made = [session(number, confidence=None, feedback=("LOW_LIGHTING_DETECTED",)) for number in range(40)]
    write_tables(tmp_path, made)
    assert make_report(str(tmp_path), ReportOptions()).headline.state == "complete"


def test_complete_day_is_called_complete(tmp_path: Path) -> None:
    """Nothing is open, no run was killed."""
    write_tables(tmp_path, [session(number) for number in range(50)])
    report = make_report(str(tmp_path), ReportOptions())
    assert report.headline.state == "complete"
    assert report.headline.sentence == "2026-03-10: all 50 requested have a final answer."


def test_late_and_ageless_answers_are_counted(tmp_path: Path) -> None:
    """An answer 181 s after the session was created is late; without created_at nobody can tell."""
    noon = datetime(2026, 3, 10, 12, tzinfo=UTC)
    late = {"created_at": noon, "fetched_at": noon + timedelta(seconds=181), "status": "EXPIRED", "confidence": None}
    made = [session(n, **late) for n in range(20)] + [session(100 + n, created_at=None) for n in range(30)]
    write_tables(tmp_path, [*made, *(session(200 + n) for n in range(50))])
    total = rows_of(make_report(str(tmp_path), ReportOptions()), "sources")[-1]
    assert (total["expired_before_fetch"], total["unknown_age"]) == (20, 30)


def drifting(days: int, shift: float) -> list[dict[str, Any]]:
    """600 sessions a day, the last day's scores lower by `shift`."""
    chance = random.Random(3)
    return [
        session(
            day * 1000 + n,
            DAY - timedelta(days=day),
            confidence=max(0.0, 100 - chance.expovariate(1) * 3 - (shift if day == 0 else 0)),
        )
        for day in range(days)
        for n in range(600)
    ]


@pytest.mark.parametrize(("shift", "state"), [(0.0, "steady"), (5.0, "drift")])
def test_drift_is_flagged_where_scores_moved(tmp_path: Path, shift: float, state: str) -> None:
    """The last day against the ones before; its unscored share is steady either way."""
    write_tables(tmp_path, drifting(10, shift))
    report = make_report(str(tmp_path), ReportOptions(first=DAY, last=DAY))
    rows = rows_of(report, "drift-scores")
    assert {row["period"] for row in rows} == {"2026-03-10"}
    assert {row["state"] for row in rows} == {state}
    assert rows_of(report, "drift-unscored")[0]["state"] == "steady"


def test_days_that_are_incomplete_are_no_baseline(tmp_path: Path) -> None:
    """Where every day before has unanswered ids, there is nothing to compare with."""
    made = drifting(10, 5.0)
    made += [
        session(90_000 + day * 100 + n, DAY - timedelta(days=day), status=None, error_code="NotAsked", confidence=None)
        for day in range(1, 10)
        for n in range(50)
    ]
    write_tables(tmp_path, made)
    report = make_report(str(tmp_path), ReportOptions(first=DAY, last=DAY))
    assert {row["state"] for row in rows_of(report, "drift-scores")} == {"too few sessions"}


def test_feedback_counts_a_session_once_per_code(report: Report, sessions: list[dict[str, Any]]) -> None:
    """Each session said FACE_NOT_ALIGNED twice."""
    rows = rows_of(report, "feedback-codes")
    with_code = sum(row["sessions"] for row in rows if row["code"] == "FACE_NOT_ALIGNED")
    assert with_code == sum(bool(made["feedback"]) for made in sessions)


def test_boxes_outside_the_frame_and_missing_references(tmp_path: Path) -> None:
    """A quarter of each of 20 boxes lies beyond the left edge; 15 sessions have no reference image."""
    made = [session(n, boxes=(("reference", -0.1, 0.2, 0.4, 0.5),)) for n in range(20)]
    made += [session(100 + n) for n in range(60)] + [session(300 + n, boxes=()) for n in range(15)]
    write_tables(tmp_path, made)
    report = make_report(str(tmp_path), ReportOptions())
    geometry = rows_of(report, "geometry")[0]
    assert (geometry["images"], geometry["with_box"], geometry["outside"]) == (80, 80, 20)
    assert geometry["clipped"] == pytest.approx(20 / 80 * 0.25)
    reference = rows_of(report, "references")[0]
    assert (reference["succeeded"], reference["missing"]) == (95, 15)
    assert sum(row["images"] for row in rows_of(report, "box-position")) == 80


@pytest.mark.parametrize("at_once", [1, 200, 10_000])
def test_report_does_not_depend_on_how_many_sessions_are_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report, sessions: list[dict[str, Any]], at_once: int
) -> None:
    """Day by day, a few days at once, and all of them."""
    monkeypatch.setattr(facts, "_AT_ONCE", at_once)
    monkeypatch.setattr(people, "_AT_ONCE", at_once)
    write_tables(tmp_path, sessions)
    options = ReportOptions(first=DAY - timedelta(days=29), last=DAY, subject_attribute="user")
    assert make_report(str(tmp_path), options).as_json()["sections"] == report.as_json()["sections"]


@pytest.fixture
def label_file(tmp_path: Path) -> Callable[[list[tuple[str, ...]]], str]:
    """Writes a labels file and returns its path."""

    def write(rows: list[tuple[str, ...]]) -> str:
        file = tmp_path / "labels.csv"
        file.write_text("\n".join(",".join(row) for row in rows) + "\n")
        return str(file)

    return write


def test_labels_add_error_rates(tmp_path: Path, label_file: Callable[[list[tuple[str, ...]]], str]) -> None:
    """20 of 100 masks pass, none of 40 prints does; 30 of 300 people do not."""
    made, labels = [], [("session_id", "label", "pai_species")]
    for n in range(440):
        kind = ("attack", "mask") if n < 100 else ("attack", "print") if n < 140 else ("bona_fide", "")
        passed = n < 20 or n >= 170
        made.append(session(n, confidence=95.0 if passed else 20.0 + n / 100))
        labels.append((made[-1]["session_id"], *kind))
    write_tables(tmp_path / "o", made)
    report = make_report(str(tmp_path / "o"), ReportOptions(labels=label_file(labels)))
    rows = {(row["measure"], row["of"]): row for row in rows_of(report, "detection-rates")}
    assert rows["APCER (worst)", "mask"]["rate"] == pytest.approx(0.2)
    assert rows["APCER", "print"]["rate"] == 0
    assert rows["APCER", "print"]["high"] == pytest.approx(1 - 0.05 ** (1 / 40))
    assert rows["BPCER", "bona fide"]["rate"] == pytest.approx(0.1)
    assert "not a known sample" in notes_of(report, "detection")


def test_people_on_both_sides_of_the_cut_are_said_to_be_left_out(
    tmp_path: Path, label_file: Callable[[list[tuple[str, ...]]], str]
) -> None:
    """100 people come once on each of two days: their sessions of the first are on neither side."""
    made = [session(n, DAY - timedelta(days=n % 2), confidence=95.0 if n >= 100 else 20.0) for n in range(400)]
    people = [n // 2 if 100 <= n < 300 else 1000 + n for n in range(400)]
    rows = [(one["session_id"], "attack" if n < 100 else "bona_fide", str(people[n])) for n, one in enumerate(made)]
    write_tables(tmp_path / "o", made)
    labels = label_file([("session_id", "label", "subject_id"), *rows])
    report = make_report(str(tmp_path / "o"), ReportOptions(first=DAY - timedelta(days=1), labels=labels))
    assert "100 labelled sessions are in neither part" in notes_of(report, "detection")


def test_report_on_s3_is_that_on_a_folder(
    tmp_path: Path, s3_store: S3Store, s3_endpoint: str, reader: str, sessions: list[dict[str, Any]]
) -> None:
    """Figure by figure, through either reader."""
    write_tables(tmp_path, [made for made in sessions if made["dt"] > DAY - timedelta(days=4)])
    write_run(tmp_path, "run-1", datetime(DAY.year, DAY.month, DAY.day, 23, tzinfo=UTC))
    for file in tmp_path.rglob("*.parquet"):
        s3_store.put(file.relative_to(tmp_path).as_posix(), file)
    options = ReportOptions(subject_attribute="user")
    there = make_report(s3_store.uri, options, endpoint_url=s3_endpoint, region="us-east-1").as_json()
    assert there["sections"] == make_report(str(tmp_path), options).as_json()["sections"]


def test_no_id_and_no_person_is_told(report: Report, sessions: list[dict[str, Any]]) -> None:
    """Neither session ids nor the values of the subject attribute."""
    text = json.dumps(report.as_json())
    assert not any(made["session_id"] in text for made in sessions)
    assert "user-1" not in text


def test_thousands_of_names_become_other(tmp_path: Path) -> None:
    """What a client says of itself may be anything: eight names stay, the rest is told together."""
    made = [session(n, sdk_type=f"sdk-{n}", challenge=(f"type-{n}" * 30, HOSTILE)) for n in range(1000)]
    made += [session(2000 + n, sdk_type="AmplifyWeb") for n in range(300)]
    write_tables(tmp_path, made)
    report = make_report(str(tmp_path), ReportOptions())
    assert {row["name"] for row in rows_of(report, "unscored-sdk")} == {"AmplifyWeb", "other"}
    assert len(json.dumps(report.as_json())) < 200_000


def test_no_sessions_make_an_empty_report(tmp_path: Path) -> None:
    """An output without tables, and days without data."""
    assert make_report(str(tmp_path), ReportOptions()).headline.state == "empty"
    write_tables(tmp_path, [session(1)])
    late = ReportOptions(first=DAY + timedelta(days=5))
    assert make_report(str(tmp_path), late).headline.state == "empty"


def test_one_session_makes_a_report_that_tells_nothing_of_it(tmp_path: Path) -> None:
    """Every count is withheld."""
    write_tables(tmp_path, [session(1, confidence=12.345)])
    report = make_report(str(tmp_path), ReportOptions())
    assert rows_of(report, "outcomes")[0]["requested"] == "<10"
    assert "12.3" not in json.dumps(report.as_json())
    assert "Fewer than 10 sessions have a score" in notes_of(report, "confidence")
    assert report.explorer is None


def test_long_span_is_told_by_week(tmp_path: Path) -> None:
    """Two hundred days are told as weeks, so that a page of any span stays readable."""
    write_tables(tmp_path, [session(n, DAY - timedelta(days=n % 200)) for n in range(4000)])
    report = make_report(str(tmp_path), ReportOptions(first=DAY - timedelta(days=199)))
    assert 28 <= len(rows_of(report, "quantiles")) <= 30
    assert len({row["period"] for row in rows_of(report, "drift-scores")}) <= 93


def test_few_errors_are_told_as_a_bound(tmp_path: Path, label_file: Callable[[list[tuple[str, ...]]], str]) -> None:
    """Three of 50 attacks passed: neither rate nor interval says so, since either tells the three."""
    made = [session(n, confidence=95.0 if n < 3 or n >= 50 else 20.0) for n in range(150)]
    rows = [(one["session_id"], "attack" if n < 50 else "bona_fide") for n, one in enumerate(made)]
    write_tables(tmp_path / "o", made)
    labels = label_file([("session_id", "label"), *rows])
    report = make_report(str(tmp_path / "o"), ReportOptions(labels=labels))
    pooled = next(row for row in rows_of(report, "detection-rates") if row["measure"].startswith("pooled"))
    assert (pooled["rate"], pooled["low"], pooled["high"], pooled["n"]) == ("<20.0%", None, None, 50)
    assert "no APCER" in pooled["measure"]


def test_nobody_is_told_of_where_few_people_are_named(tmp_path: Path) -> None:
    """Nine people, or none at all: no figure."""
    made = [session(n, attributes=[("user", f"user-{n % 9}")]) for n in range(900)]
    write_tables(tmp_path, made)
    for attribute in ("user", "nothing"):
        report = make_report(str(tmp_path), ReportOptions(subject_attribute=attribute))
        assert not any(figure.id == "people" for section in report.sections for figure in section.figures)
