"""A report on many sessions of 29 days: its time, its memory, and the size of the page.

    python -m tests.benchmarks.report_large [--sessions 1000000] [--no-people] [--output DIR]

The report runs in a process of its own, with people told apart unless --no-people; tables in DIR are made once.
"""

import argparse
import json
import tempfile
from datetime import date
from pathlib import Path

from tests.benchmarks.publish_large import measured
from tests.benchmarks.published import write_tables

DAYS = 29

_REPORT = """
from liveness_etl.analysis.page import page
from liveness_etl.analysis.report import ReportOptions, make_report
report = make_report("{output}", ReportOptions(subject_attribute={subject!r}))
open("{output}/report.html", "w").write(page(report))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--no-people", action="store_true", help="without report.subject_attribute")
    parser.add_argument("--output", type=Path, help="keep the tables here, and use them again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        output = arguments.output or Path(folder)
        if not (output / "sessions").exists():
            write_tables(output, date(2026, 1, 31), DAYS, arguments.sessions)
        subject = None if arguments.no_people else "user_id"
        found = measured(_REPORT, output=output, subject=subject)
        page_bytes = (output / "report.html").stat().st_size
        print(json.dumps({"sessions": arguments.sessions, "people": subject is not None, **found, "page": page_bytes}))


if __name__ == "__main__":
    main()
