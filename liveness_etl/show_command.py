"""What the command `show` prints: one session, partition by partition, for people or as JSON."""

import json
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from liveness_etl.analysis.show import Found, Row, Shown, find_session
from liveness_etl.errors import UsageError
from liveness_etl.logs import say
from liveness_etl.transform.normalize import NOT_ASKED

_BOX = ("box_left", "box_top", "box_width", "box_height")


def show(output: Any, session_id: str, form: str) -> int:
    """Print what the output (its section of the settings) has of the session; returns the exit code, 3 for nothing."""
    if output.uri is None:
        raise UsageError("no output: give --output with a folder or an s3:// address")
    options = {"endpoint_url": output.endpoint_url, "region": output.region, "profile": output.profile}
    found = find_session(output.uri, session_id, **options, expected_bucket_owner=output.expected_bucket_owner)
    if form == "json":
        show_json(session_id, found)
    else:
        show_text(found)
    if found.partitions:
        return 0
    if found.forgotten:
        say("this session was erased with forget")
    else:
        say("no such session, neither in the tables nor in what has landed since")
    return 3


def show_json(session_id: str, found: Found) -> None:
    """The whole of it on standard output, rows as they are stored."""
    partitions = [
        {"dt": shown.dt, "session": next(iter(shown.tables["sessions"]), None)}
        | {table: rows for table, rows in shown.tables.items() if table != "sessions"}
        | {"landing": shown.landing}
        for shown in found.partitions
    ]
    document = {"session_id": session_id, "forgotten": found.forgotten, "partitions": partitions}
    print(json.dumps(document, indent=2, default=_iso, ensure_ascii=False))


def show_text(found: Found) -> None:
    """The same to be read on a terminal of 80 columns; landing rows in short."""
    for number, shown in enumerate(found.partitions):
        print("\n" * (number > 0) + f"dt={shown.dt}")
        _show_partition(shown)


def _show_partition(shown: Shown) -> None:
    session = next(iter(shown.tables["sessions"]), None)
    if session is None:
        print("\nnot published yet: landing alone has it")
    else:
        _show_record("session", {name: value for name, value in session.items() if name not in ("session_id", "dt")})
    for row in shown.tables["challenges"]:
        _show_record("challenge", {name: row[name] for name in ("type", "version")})
    for row in shown.tables["bounding_boxes"]:
        _show_record(f"{row['image_type']} image {row['image_index']}", _image(row))
    for row in shown.tables["feedback"]:
        _show_record(f"feedback {row['feedback_index']}", {name: row[name] for name in ("code", "message")})
    print(f"\nlanding: {_count(len(shown.landing), 'row')}")
    for row in shown.landing:
        print(f"  {_in_short(row)}\n    run {_text(row['run_id'])}")


def _image(row: Row) -> Mapping[str, Any]:
    sides = [row[name] for name in _BOX]
    box = None if None in sides else "  ".join(f"{name[4:]} {side:.4f}" for name, side in zip(_BOX, sides, strict=True))
    references = ("image_uri", "s3_bucket", "s3_name", "s3_version", "image_sha256", "image_size_bytes")
    return {"box": box} | {name: row[name] for name in references if row[name] is not None}


def _in_short(row: Row) -> str:
    said = [_text(row[name]) for name in ("status", "error_code") if row[name] is not None]
    if row["confidence"] is not None:
        said.append(f"confidence {row['confidence']:.4f}")
    said += [_count(len(row["images"] or ()), "image"), _count(row["attempts"], "call")]
    unknown = "never asked" if row["error_code"] == NOT_ASKED else "at an unknown time"  # a copy need not tell
    return "  ".join([unknown if row["fetched_at"] is None else _text(row["fetched_at"]), *said])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _show_record(title: str, values: Mapping[str, Any]) -> None:
    print(f"\n{title}")
    width = max(map(len, values))
    for name, value in values.items():
        print(f"  {name:<{width}}  {_text(value)}".rstrip())


def _text(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return ", ".join(f"{_text(key)}={_text(one)}" for key, one in value.items()) or "none"
    # What is stored came from outside: it must not steer a terminal.
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(value))


def _iso(value: object) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else str(value)
