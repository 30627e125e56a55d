"""What the command `forget` reads and prints: ids as arguments or from a file, and what was erased and what not."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from liveness_etl.errors import UsageError
from liveness_etl.load.forget import Expired, Forgotten, session_id_of
from liveness_etl.logs import say

_LINE_SECONDS = 5.0


def read_ids(arguments: Sequence[str], file: Path | None) -> list[str]:
    """All ids, each once, as landing spells them; `file` has one per line, and `-` is standard input.

    Raises UsageError for the first that is none; its message says where it stands, and not what stands there.
    """
    named = [(f"argument {number}", text) for number, text in enumerate(arguments, 1)]
    if file is not None:
        named += ((f"line {number} of {_name(file)}", line) for number, line in _lines(file) if line.strip())
    return list(dict.fromkeys(_checked(named)))


def partitions_done() -> Callable[[int, int], None]:
    """Says on standard error every few seconds how many partitions are done."""
    last = time.monotonic()

    def progressed(done: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_SECONDS:
            last = time.monotonic()
            say(f"forget: {done:,} of {of:,} partitions")

    return progressed


def show_forgotten(forgotten: Forgotten) -> None:
    """What was erased, and what that does not reach, on standard output."""
    known = f" ({forgotten.known:,} of them were erased before)" if forgotten.known else ""
    _show_erased(
        {
            "session ids": f"{forgotten.ids:,}{known}",
            "landing rows erased": f"{forgotten.rows:,}",
            "rows of rescued answers erased": f"{forgotten.rescued_rows:,}",
            "stored images erased": f"{forgotten.images:,}",
            "old object versions erased": f"{forgotten.versions:,}",
            "S3 objects that AWS wrote, erased": f"{forgotten.source_images:,}",
            "partitions written again": f"{len(forgotten.partitions):,}",
        }
    )
    print("Not reached, erase there too where these sessions are:")
    for (bucket, reason), count in sorted(forgotten.sources_left.items()):
        print(f"  {count:,} S3 objects that AWS wrote to {bucket}: {reason}; their rows are gone")
    if forgotten.plans_left:
        print(
            f"  the plans (.tmp/) of {forgotten.plans_left:,} runs that may be under way: a run deletes its own; "
            "where the bucket keeps versions, forget these ids again afterwards"
        )
    print("  manifests, and the backend that writes them (these ids are not asked for again)")
    print("  results of queries, reports and exports made before")
    print("  backups, replicas and other copies of the output or of its buckets")
    print("  logs written with --verbose or log.level DEBUG")
    print("  temporary files of processes that were killed (.tmp/ of a folder clears itself after a day)")
    print("  answers that other machines hold because they could not land them (they land without these ids)")


def show_expired(expired: Expired) -> None:
    """What went because of its age, on standard output."""
    _show_erased(
        {
            "partitions erased": f"{len(expired.partitions):,}",
            "partitions whose images were erased": f"{len(expired.image_partitions):,}",
            "objects erased": f"{expired.objects:,}",
            "old object versions erased": f"{expired.versions:,}",
        }
    )
    print("Not reached: run records (they hold counts only), and backups, replicas and other copies.")


def _show_erased(figures: Mapping[str, str]) -> None:
    width = max(map(len, figures))
    for name, figure in figures.items():
        print(f"{name:<{width}}  {figure}")


def _checked(named: Iterable[tuple[str, str]]) -> Iterator[str]:
    for where, text in named:
        session_id = session_id_of(text)
        if session_id is None:
            raise UsageError(f"{where} is not a session id (a UUID): nothing was erased")
        yield session_id


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    # What is not UTF-8 is no id, and is reported as such with its line.
    return enumerate(content.decode("utf-8-sig", "replace").split("\n"), 1)


def _name(file: Path) -> str:
    return "standard input" if str(file) == "-" else str(file)
