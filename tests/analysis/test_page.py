"""The page in a real browser: it draws without errors, moves with the slider, and talks to nobody."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from liveness_etl.analysis.page import page, script_json
from liveness_etl.analysis.report import ReportOptions, make_report
from tests.analysis.chromium import chromium, requests, show
from tests.analysis.made_tables import DAY, session, write_tables
from tests.analysis.test_report import made_sessions

HOSTILE = "</script><script>window.hurt = 1</script><img src=x onerror='window.hurt = 1'><!--\u2028&lt;"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The page's file, and the report as JSON: hostile text in every column that comes from outside."""
    output = tmp_path_factory.mktemp("output")
    hostile = {"source": "default", "sdk_type": HOSTILE, "challenge": (HOSTILE, HOSTILE), "feedback": (HOSTILE,)}
    rows = made_sessions() + [session(10_000 + n, DAY, confidence=50 + n / 10, **hostile) for n in range(400)]
    rows += [session(20_000 + n, status=None, error_code=HOSTILE, confidence=None) for n in range(40)]
    write_tables(output, rows)
    labels = output / "labels.csv"
    of_it = [f"{row['session_id']},{'attack' if n % 3 else 'bona_fide'},mask" for n, row in enumerate(rows[:900])]
    labels.write_text("\n".join(["session_id,label,pai_species", *of_it]))
    report = make_report(str(output), ReportOptions(subject_attribute="user", labels=str(labels)))
    file = output / "report.html"
    file.write_text(page(report), encoding="utf-8")
    return file, report.as_json()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One browser for all tests of this module."""
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


def complaints(driver: Any) -> list[str]:
    """What the console says, apart from notes of its own."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


@pytest.mark.parametrize(("dark", "width"), [(False, 1200), (True, 1200), (False, 360)])
def test_page_draws_every_chart_without_a_complaint(
    made: tuple[Path, dict[str, Any]], driver: Any, dark: bool, width: int
) -> None:
    """Light, dark and on a phone: an SVG for each chart, no console message, no sideways scrolling."""
    file, report = made
    show(driver, file, dark=dark, width=width)
    assert complaints(driver) == []
    charts = sum(figure["chart"] is not None for section in report["sections"] for figure in section["figures"])
    assert charts > 10
    assert driver.execute_script("return document.querySelectorAll('.drawing svg').length") == charts
    overflow = driver.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0


def test_no_request_leaves_the_page(made: tuple[Path, dict[str, Any]], driver: Any) -> None:
    """The browser is asked for the file, and for nothing else."""
    driver.get_log("performance")
    show(driver, made[0])
    assert {url.split(":")[0] for url in requests(driver)} <= {"file", "data", "blob"}
    assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_policy_blocks_a_request_that_a_script_tries(made: tuple[Path, dict[str, Any]], driver: Any) -> None:
    """Were something to get in, it could not get out."""
    show(driver, made[0])
    blocked = driver.execute_async_script(
        "const done = arguments[0];"
        "document.addEventListener('securitypolicyviolation', e => done(e.violatedDirective));"
        "fetch('https://example.com/').catch(() => {});"
    )
    assert blocked == "connect-src"
    driver.get_log("browser")


def test_slider_and_number_move_the_figures(made: tuple[Path, dict[str, Any]], driver: Any) -> None:
    """An arrow key on the slider, and a number typed: rates, text for screen readers, and the rule in the chart."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    file, report = made
    show(driver, file)
    explorer = report["explorer"]

    def shown() -> tuple[str, str]:
        rate = driver.find_element(By.ID, "of-scored").text
        rule = driver.execute_script("return views['pass-rates'].signal('at')")
        return rate, str(rule)

    before = shown()
    slider = driver.find_element(By.ID, "threshold-slider")
    slider.send_keys(Keys.HOME)
    assert shown() != before
    first = explorer["passed"][0] / explorer["scored"]
    assert shown()[0].startswith(f"{100 * first:.2f}".rstrip("0"))
    number = driver.find_element(By.ID, "threshold-number")
    number.clear()
    number.send_keys("95")
    place = min(range(len(explorer["thresholds"])), key=lambda index: abs(explorer["thresholds"][index] - 95))
    assert f"{explorer['passed'][place]:,} of" in shown()[0]
    assert float(shown()[1]) == explorer["thresholds"][place]
    assert complaints(driver) == []


def test_text_from_outside_stays_text(made: tuple[Path, dict[str, Any]], driver: Any) -> None:
    """It is shown as it stands, and nothing of it runs."""
    file, _ = made
    show(driver, file)
    assert driver.execute_script("return window.hurt") is None
    assert "<script>window.hurt = 1</script>" in driver.execute_script("return document.body.textContent")
    assert driver.execute_script("return document.images.length") == 0
    text = file.read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert "\u2028" not in text


def test_colours_follow_the_theme(made: tuple[Path, dict[str, Any]], driver: Any) -> None:
    """The page's paper and a chart's line both change."""

    def colours() -> list[str]:
        found: list[str] = driver.execute_script(
            "return [getComputedStyle(document.body).backgroundColor,"
            "getComputedStyle(document.querySelector('[data-chart=ecdf] .mark-line path')).stroke]"
        )
        return found

    show(driver, made[0])
    light = colours()
    show(driver, made[0], dark=True)
    assert [one != other for one, other in zip(light, colours(), strict=True)] == [True, True]


def test_page_prints(made: tuple[Path, dict[str, Any]], driver: Any) -> None:
    """In light colours, whatever the theme."""
    show(driver, made[0], dark=True)
    assert len(driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]) > 100_000
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert driver.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_every_table_shows_the_report_s_own_rows(made: tuple[Path, dict[str, Any]], driver: Any) -> None:
    """Page and JSON are the same: as many rows for every figure, and the report stands in the page."""
    file, report = made
    show(driver, file)
    embedded = driver.execute_script("return JSON.parse(document.getElementById('report').textContent)")
    assert embedded == json.loads(json.dumps(report))
    for figure in (figure for section in report["sections"] for figure in section["figures"]):
        rows = driver.execute_script(
            f"return document.querySelectorAll('[data-table=\"{figure['id']}\"] tbody tr').length"
        )
        assert rows == len(figure["table"]["rows"]), figure["id"]


def test_page_is_small_and_has_its_landmarks(made: tuple[Path, dict[str, Any]]) -> None:
    """Under 2 MB; one main heading; an alternative text for every chart."""
    text = made[0].read_text(encoding="utf-8")
    assert len(text.encode()) < 2_000_000
    assert text.count("<h1") == 1
    assert "<main" in text
    assert "<nav" in text
    assert "default-src &#x27;none&#x27;" in text
    assert all(label.strip() for label in re.findall(r'role="img" aria-label="([^"]*)"', text))


def test_json_in_a_script_cannot_end_it() -> None:
    """No character of the text that could, and the value comes back as it was."""
    text = script_json({"a": HOSTILE})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": HOSTILE}
