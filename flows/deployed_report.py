"""The report of a nightly run: a page and the same figures as JSON, in a folder of this machine."""

import logging
import os
from datetime import date
from pathlib import Path

from deployed_job import config_folder

from liveness_etl.analysis.write_report import write_report
from liveness_etl.errors import LivenessError
from liveness_etl.job import report_options
from liveness_etl.settings import Settings

REPORTS_FOLDER_VARIABLE = "LIVENESS_ETL_REPORTS_FOLDER"

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


def write_nightly_report(settings: Settings, config: str, last: date, logger: Logger) -> tuple[Path, list[str]] | None:
    """Write `<folder>/<config>/<last>.html` and `.json`: the page's path, and lines that sum it up.

    None, and a line in the log, where there is no page. A report that cannot be made costs the run nothing: its
    tables are right, and `liveness-etl report` makes it at any time.
    """
    folder = Path(os.environ.get(REPORTS_FOLDER_VARIABLE) or config_folder() / "reports") / config
    page: Path | None = folder / f"{last}.html"
    try:
        import vl_convert  # noqa: F401
    except ImportError:
        logger.info('no page of the report, its figures alone: a page needs pip install "liveness-etl[report]"')
        page = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = list(write_report(settings.output, report_options(settings, last=last), page, folder / f"{last}.json"))
    except (LivenessError, OSError) as error:
        logger.warning(f"no report: {error}")
        return None
    for line in lines:
        logger.info(line)
    return None if page is None else (page, [line for line in lines if not line.startswith("Written:")])
