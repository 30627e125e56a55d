"""Labelled sessions as columns of numbers, and their split into a part that chooses and one that measures."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LabelledSessions:
    """Columns of equal length.

    `score` is -inf for FAILED and NaN without an answer, `species` -1 without any, `created` milliseconds of the
    epoch where `timed`.
    """

    attack: Mask
    score: npt.NDArray[np.float64]
    species: npt.NDArray[np.int64]
    subject: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]
    created: npt.NDArray[np.int64]
    timed: Mask

    def part(self, where: Mask) -> "LabelledSessions":
        """These of the sessions."""
        return LabelledSessions(*(column[where] for column in vars(self).values()))


def read_sessions(joined: pa.Table) -> tuple[LabelledSessions, list[str]]:
    """The columns of a joined table, and the names that its species' numbers stand for.

    A session without a subject becomes a subject of its own.
    """
    rows = joined.num_rows
    attack = _mask(pc.equal(joined["label"], "attack"))
    status = joined["status"]
    score = pc.if_else(pc.equal(status, "SUCCEEDED"), joined["confidence"], None)
    score = pc.if_else(pc.equal(status, "FAILED"), float("-inf"), score)
    species, names = _codes(joined, "pai_species")
    subject, subjects = _codes(joined, "subject_id")
    unknown = subject < 0
    subject[unknown] = len(subjects) + np.arange(int(unknown.sum()))
    created = (
        joined["created_at"].cast(pa.timestamp("ms", "UTC")) if has_values(joined, "created_at") else pa.nulls(rows)
    )
    return LabelledSessions(
        attack,
        np.asarray(pc.fill_null(score.cast(pa.float64()), float("nan")), float),
        np.where(attack, species, -1),
        subject,
        np.asarray(pc.fill_null(joined["weight"], 1.0), float) if has_values(joined, "weight") else np.ones(rows),
        np.asarray(pc.fill_null(created.cast(pa.int64()), 0), np.int64),
        _mask(created.is_valid()),
    ), names


def has_values(joined: pa.Table, column: str) -> bool:
    """Whether a column is there and says anything."""
    return column in joined.column_names and joined[column].null_count < joined.num_rows


def _mask(values: pa.ChunkedArray) -> Mask:
    return np.asarray(pc.fill_null(values, False), bool)


def _codes(joined: pa.Table, column: str) -> tuple[npt.NDArray[np.int64], list[str]]:
    """(a number per row, -1 for NULL, and what the numbers stand for)."""
    if not has_values(joined, column):
        return np.full(joined.num_rows, -1), []
    encoded = joined[column].cast(pa.string()).combine_chunks().dictionary_encode()
    return np.array(pc.fill_null(encoded.indices, -1), np.int64), encoded.dictionary.to_pylist()


def split_sessions(sessions: LabelledSessions) -> tuple[Mask, Mask] | None:
    """(the part that chooses, the part that measures), or None where one of them could not.

    The cut is in the middle of the rarer label, so that both parts have some of it, and a subject is on the side
    where most of its sessions are.
    """
    attack, timed = sessions.attack, sessions.timed
    rarer = min((timed & attack, timed & ~attack), key=np.count_nonzero)
    times, counts = np.unique(sessions.created[rarer], return_counts=True)
    if len(times) < 2:
        return None
    before = np.cumsum(counts)[:-1]
    early = sessions.created < times[1 + np.argmin(np.abs(before - counts.sum() / 2))]
    balance = np.bincount(sessions.subject[timed], np.where(early, 1, -1)[timed], minlength=sessions.subject.max() + 1)
    early_subject = (balance > 0)[sessions.subject]
    parts = timed & early & early_subject, timed & ~early & ~early_subject
    answered = ~np.isnan(sessions.score)
    enough = all((part & answered & side).any() for part in parts for side in (attack, ~attack))
    return parts if enough else None
