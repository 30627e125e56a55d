"""What `verify` can find, and what to do about each: written for whoever is on call at night."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

EXAMPLES: Final = 5
"""Session ids that a finding names at most."""

_REBUILD: Final = "run `publish --date {dt} --rebuild`: it makes the tables again from landing"

_ADVICE: Final = {
    "landing-damaged": "cannot be read to its end: restore it from a backup or an older object version before anything "
    "is published; if there is none, move it away and run the manifest again",
    "landing-schema": "has other columns, types or versions than landing has: move it away, or restore a backup of it",
    "landing-values": "rows with a session id that is no UUID or a confidence outside 0-100, which this program never "
    "lands: find out who wrote this part",
    "landing-lost": "published answers that landing does not hold (any more), so a publish would drop them: restore "
    "the partition's landing parts first",
    "table-missing": "this table's file is gone: run `publish --date {dt}`",
    "table-damaged": "cannot be read to its end: " + _REBUILD,
    "table-schema": "has other columns, types or NOT NULLs than the table contract: " + _REBUILD,
    "table-origin": "does not say which landing it was made from, so this program did not write it: " + _REBUILD,
    "table-stale": "tables older than what has landed, or than this program's table contract: run "
    "`publish --date {dt}`",
    "row-missing": "ids or children of landing without their row: " + _REBUILD,
    "row-surplus": "rows that landing does not account for: " + _REBUILD,
    "row-altered": "rows with other values than the winning answer in landing: " + _REBUILD,
    "row-doubled": "rows that repeat a key: " + _REBUILD,
    "row-orphan": "children without a row in sessions: " + _REBUILD,
    "row-order": "rows are not sorted by session_id: " + _REBUILD,
    "id-in-two-partitions": "ids with a row in both, as after a run with another --date or created_at: count them once "
    "(`SELECT session_id FROM sessions WHERE dt IN ('{first}', '{last}') GROUP BY ALL HAVING count(*) > 1`)",
    "manifest-id-missing": "ids of the manifest without a row in this partition ({elsewhere:,} of them stand in "
    "another, as with another --date): run the manifest again",
    "image-missing": "images that a row refers to and that are not there: restore them from a backup or an older "
    "object version; they cannot be fetched again",
    "image-altered": "images with another size or SHA-256 than their row says: restore them from a backup or an older "
    "object version",
    "image-elsewhere": "images outside of the configured image store, which were not looked at: if the output was "
    "moved, move it back; if the store was, name it in images.uri",
    "record-damaged": "cannot be read as a record of a run: restore it or delete it; it holds no answers",
    "stray-file": "query engines read it (or would, under another name) as part of the table: move it away",
}
_NOTES: Final = {
    "image-unreferenced": "images that no landed row refers to, as a run leaves them that was killed before it landed",
    "run-unfinished": "runs that were killed or are still at work; the next run of their manifest completes them",
    "foreign-file": "not of this program; nothing reads it",
}


@dataclass(frozen=True)
class Finding:
    """One kind of defect in one place: `count` rows, files or ids, and the first few session ids.

    `where` is a path below the output, or the folder of a partition. A note is no defect.
    """

    check: str
    where: str
    count: int
    advice: str
    session_ids: tuple[str, ...] = ()

    @property
    def is_note(self) -> bool:
        """Whether this is worth knowing but no defect."""
        return self.check in _NOTES


def finding(check: str, where: str, count: int = 1, session_ids: Sequence[str] = (), **words: object) -> Finding:
    """A finding with the advice of its check; `words` are what that advice names (`dt`, …)."""
    advice = _NOTES.get(check) or _ADVICE[check]
    return Finding(check, where, count, advice.format(**words), tuple(sorted(session_ids)[:EXAMPLES]))
