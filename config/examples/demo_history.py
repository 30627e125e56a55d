"""Two weeks of made-up sessions to try queries and the notebook on: `python config/examples/demo_history.py FOLDER`.

Writes FOLDER/manifest.csv and FOLDER/liveness.toml and runs `liveness-etl` with them against LocalRekognition, which
makes up the answers: 2,800 sessions of 700 people, created from 2026-03-02 to 2026-03-15 and asked of two sources. Some
lines of the manifest are malformed, some do not say when their session was created, and some calls fail at first.
Takes about ten seconds; the tables are in FOLDER. What these scores show is what the stand-in invents, no more.
"""

import csv
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from liveness_etl.local import LocalConfig, LocalRekognition, session_ids

FIRST = datetime(2026, 3, 2, tzinfo=UTC)
DAYS, SESSIONS = 14, 2_800

CONFIG = """\
[manifest]
attributes = ["user_id", "app_version"]

[output]
uri = "{folder}"

[report]
subject_attribute = "user_id"

[sources.web]
region = "us-east-1"
endpoint_url = "{endpoint_url}"
max_tps = 300

[sources.mobile]
region = "eu-west-1"
endpoint_url = "{endpoint_url}"
max_tps = 300
"""


def write_manifest(path: Path) -> None:
    """Sessions in the order of their creation; an hour and a half of each day has none."""
    between = timedelta(hours=22.5) * DAYS / SESSIONS
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["session_id", "created_at", "source", "user_id", "app_version"])
        for number, session_id in enumerate(session_ids(7, SESSIONS)):
            day, of_day = divmod(number * DAYS, SESSIONS)
            created_at = FIRST + timedelta(days=day) + of_day / DAYS * between
            # Seven people at a time take turns, four tries each; now and then nobody says who it was.
            person = number // 28 * 7 + number % 7 if number % 50 else None
            writer.writerow(
                [
                    session_id,
                    created_at.isoformat(timespec="milliseconds") if number % 97 else "",
                    "web" if number % 5 < 3 else "mobile",
                    "" if person is None else f"user-{person:03}",
                    f"3.{day // 7}",
                ]
            )
            if number % 400 == 0:
                writer.writerow([f"not-a-session-{number}", created_at.isoformat(), "web", "", ""])


def make_history(folder: Path) -> Path:
    """Make the output in `folder`; returns its configuration file. Raises CalledProcessError where the run fails."""
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    manifest, config = folder / "manifest.csv", folder / "liveness.toml"
    write_manifest(manifest)
    # Stand-in credentials for a stand-in server: the user's own are never sent to it.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LIVENESS_ETL_"))}
    environ |= {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo", "AWS_EC2_METADATA_DISABLED": "true"}
    faults = ("500", "throttle", "reset")
    with LocalRekognition(LocalConfig(seed=7, answer_any=True, fault_share=0.05, fault_kinds=faults)) as rekognition:
        config.write_text(CONFIG.format(folder=folder.as_posix(), endpoint_url=rekognition.endpoint_url))
        run = ["run", str(manifest), "--config", str(config), "--date", "2026-03-15", "--quiet"]
        subprocess.run([sys.executable, "-m", "liveness_etl", *run], env=environ, check=True, stdout=sys.stderr)
    return config


if __name__ == "__main__":
    make_history(Path(sys.argv[1] if len(sys.argv) > 1 else "liveness-history"))
