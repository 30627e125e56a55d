"""Documents that a backend kept: what is an answer, where each of them ends, and what is refused with which number."""

import base64
import json
import tracemalloc
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liveness_etl.extract.copied_answers import MAX_DOCUMENT_BYTES, Copy, copy_reader, read_copies
from liveness_etl.extract.manifest_check import Rules
from liveness_etl.extract.manifest_lines import ManifestOptions
from liveness_etl.extract.rekognition import answer_shape
from tests.running import CREATED_AT, DT, ids

NOW = datetime(2026, 3, 2, tzinfo=UTC)
RULES = Rules(DT, ("default",), "default", NOW)
READ = copy_reader(answer_shape())
ONE, TWO, THREE = ids(3)
IMAGE = b"\xff\xd8\xff\x00'\"\\\n\r\t az~" + bytes(range(256))


def answer(session_id: str = ONE, **members: Any) -> dict[str, Any]:
    return {"SessionId": session_id, "Status": "SUCCEEDED", **members}


def read(
    *pieces: bytes | str, rules: Rules = RULES, options: ManifestOptions | None = None
) -> tuple[list[Copy], list[tuple[int, str]]]:
    """The copies in a file, and the numbers and reasons of its rejects."""
    return read_all((piece.encode() if isinstance(piece, str) else piece for piece in pieces), rules, options)


def read_all(
    pieces: Iterable[bytes], rules: Rules = RULES, options: ManifestOptions | None = None
) -> tuple[list[Copy], list[tuple[int, str]]]:
    """The same of a file that is made while it is read."""
    found, rejects = [], []
    for copies in read_copies(pieces, "copies.jsonl", options or ManifestOptions(), rules, READ):
        found += copies.found
        rejects += [(row["line_number"], row["reason"]) for row in copies.rejects.to_pylist()]
        assert {row["manifest_uri"] for row in copies.rejects.to_pylist()} <= {"copies.jsonl"}
    return found, rejects


def lines(*documents: dict[str, Any]) -> str:
    return "".join(json.dumps(document) + "\n" for document in documents)


def session_ids(copies: Iterable[Copy]) -> list[str]:
    return [copy.ask.session_id for copy in copies]


# Where a document begins and ends


def test_lines_and_printed_documents_may_stand_in_one_file() -> None:
    """As `>>` leaves them, with blank lines, CRLF, a byte order mark, and no line feed at the end."""
    pretty = json.dumps(answer(TWO, AuditImages=[{"BoundingBox": {}}, {}]), indent=4).replace("\n", "\r\n")
    text = f"\ufeff{json.dumps(answer(ONE))}\n\n{pretty}\r\n{json.dumps(answer(THREE), indent=2)}"
    found, rejects = read(text)
    assert (session_ids(found), rejects) == ([ONE, TWO, THREE], [])
    assert len(found[1].answer.result.images) == 2


def test_broken_document_costs_only_itself() -> None:
    """One that was cut off ends where the next begins, and has the number of its first line."""
    whole = json.dumps(answer(TWO), indent=4) + "\n"
    cut = "".join(whole.splitlines(True)[:-2])
    found, rejects = read(cut + whole + cut + lines(answer(THREE)) + cut)
    assert session_ids(found) == [TWO, THREE]
    assert [number for number, _ in rejects] == [1, 7, 10]


@pytest.mark.parametrize("indent", [None, 4])
def test_document_that_is_too_long_is_refused(indent: int | None) -> None:
    """On one line or on many; what follows is read."""
    long = json.dumps(answer(Long=["x" * 1_000] * (MAX_DOCUMENT_BYTES // 1_000)), indent=indent) + "\n"
    text = (long + lines(answer(TWO))).encode()
    found, rejects = read(*(text[at : at + 500_000] for at in range(0, len(text), 500_000)))
    assert session_ids(found) == [TWO]
    assert rejects == [(1, f"is longer than {MAX_DOCUMENT_BYTES:,} bytes")]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_document_without_an_end_takes_bounded_memory(end: bytes) -> None:
    """All on one line, or indented over any number of them."""

    def pieces() -> Iterator[bytes]:
        yield b"{\n"
        for _ in range(8 * MAX_DOCUMENT_BYTES // 500_000):
            yield b" " + b"x" * 500_000 + end

    tracemalloc.start()
    try:
        found, rejects = read_all(pieces())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found, [number for number, _ in rejects]) == ([], [1])
    assert peak < 5 * MAX_DOCUMENT_BYTES


def documents() -> st.SearchStrategy[bytes]:
    good = st.builds(
        lambda indent, status: json.dumps(answer(Status=status), indent=indent).encode(),
        st.sampled_from([None, 2, 4]),
        st.sampled_from(["SUCCEEDED", "EXPIRED"]),
    )
    odd = st.sampled_from([b"{", b"}", b"  {", b"[]", b"\xff", b"\0", b"", b"   ", b'{"SessionId": {}}', b"[" * 5_000])
    return st.one_of(good, odd, st.binary(max_size=8))


@given(st.lists(documents(), max_size=12), st.integers(1, 40))
def test_any_bytes_end_as_copies_or_rejects_however_they_are_cut(parts: list[bytes], size: int) -> None:
    """Nothing raises, and the size of the pieces changes nothing."""
    content = b"\n".join(parts)
    whole = read(content)
    cut = read(*(content[at : at + size] for at in range(0, len(content), size)))
    assert (session_ids(cut[0]), cut[1]) == (session_ids(whole[0]), whole[1])


@given(st.lists(st.sampled_from([None, 2, 4]), max_size=8))
def test_every_good_document_is_found(indents: list[int | None]) -> None:
    """None swallows another, in whichever way each is printed."""
    text = "".join(json.dumps(answer(), indent=indent) + "\n" for indent in indents)
    assert len(read(text)[0]) == len(indents)


# What an answer is


@given(st.binary(max_size=60))
def test_bytes_are_the_same_from_base64_and_from_python(content: bytes) -> None:
    """As the AWS CLI prints them, and as `default=str` does."""
    for written in (base64.b64encode(content).decode(), str(content)):
        found, rejects = read(lines(answer(ReferenceImage={"Bytes": written})))
        assert rejects == []
        assert found[0].answer.image_bytes == (content or None,)


def test_every_byte_survives_both_ways_in_all_images() -> None:
    """Quotes, escapes and all 256 values."""
    images = [{"Bytes": str(IMAGE)}, {"Bytes": base64.b64encode(IMAGE).decode()}]
    found, _ = read(lines(answer(AuditImages=images, ReferenceImage=images[0])))
    assert found[0].answer.image_bytes == (IMAGE, IMAGE, IMAGE)


@pytest.mark.parametrize(
    "written",
    [
        "<redacted>",
        "b'",
        "b'a'b'b'",
        "b'a' + b'b'",
        r"b'\xg0'",
        r"b'\u0041'",
        r"b'\N{BULLET}'",
        "b'é'",
        "b'a\n'",
        "b'" + "\\x00" * 3 + "\\",
        "__import__('os').getcwd()",
        "QQ=",
        "QQ==\n",
    ],
)
def test_bytes_that_are_neither_are_refused(written: str) -> None:
    """They are data, never run; the line can be mended and imported again."""
    found, rejects = read(lines(answer(ReferenceImage={"Bytes": written})))
    reason = "ReferenceImage.Bytes is neither base64 nor Python bytes (leave out what was not kept)"
    assert (found, rejects) == ([], [(1, reason)])


def test_image_whose_bytes_were_left_out_is_an_image_without_a_reference() -> None:
    """Its box is kept."""
    found, _ = read(lines(answer(ReferenceImage={"BoundingBox": {"Left": 0.25}})))
    (image,) = found[0].answer.result.images
    assert image.box is not None
    assert (image.box.left, image.image_uri, found[0].answer.image_bytes) == (0.25, None, (None,))


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("no JSON", "the answer is no JSON"),
        ("[]", "is not a JSON object"),
        ('"text"', "is not a JSON object"),
        (b"\xff{}", "is not UTF-8"),
        (b'{"SessionId":"\0"}', "has a NUL byte"),
        ('{"Status":"SUCCEEDED"}', "has no session id"),
        ('{"SessionId":"x","Status":"SUCCEEDED"}', "session id is not a UUID"),
        ('{"SessionId":1,"Status":"SUCCEEDED"}', "SessionId is not a string"),
        (f'{{"SessionId":"{ONE}"}}', "the answer has no Status"),
        (f'{{"SessionId":"{ONE}","Status":"SUCCEEDED","Status":"FAILED"}}', "the answer holds a member twice"),
        (f'{{"SessionId":"{ONE}","Status":"SUCCEEDED","Confidence":NaN}}', "the answer holds a number that is none"),
        (f'{{"SessionId":"{ONE}","Status":"SUCCEEDED","Confidence":"99"}}', "Confidence has the wrong type"),
        (f'{{"SessionId":"{ONE}","Status":"SUCCEEDED","Confidence":101}}', "Confidence lies outside 0-100"),
        (f'{{"SessionId":"{ONE}","Status":"SUCCEEDED","AuditImages":{{}}}}', "AuditImages has the wrong type"),
        (f'{{"SessionId":"{ONE}","Status":"SUCCEEDED","created_at":"today"}}', "created_at is not a timestamp"),
        (f'{{"SessionId":"{ONE}","Status":"SUCCEEDED","source":"mars"}}', "source is not one of [sources]"),
        ('{"Error":{"Code":"ThrottlingException"},"ResponseMetadata":{}}', "the answer has no Status"),
    ],
)
def test_line_that_is_no_answer_is_refused_with_its_number(document: str | bytes, reason: str) -> None:
    """As strictly as the answer of a call; its neighbours are read."""
    content = document.encode() if isinstance(document, str) else document
    found, rejects = read(lines(answer(TWO)).encode() + content + b"\n" + lines(answer(THREE)).encode())
    assert (session_ids(found), rejects) == ([TWO, THREE], [(2, reason)])


# What stands beside the answer


def test_manifest_columns_may_stand_beside_the_answer() -> None:
    """created_at decides the partition, attributes are kept, upper case is folded; all else is dropped."""
    options = ManifestOptions(created_at_column="at", attributes=("plan", "Confidence"))
    document = answer(ONE.upper(), at="2026-02-27T23:59:59.5Z", plan="gold", other=1, Confidence=99.5)
    (copy,), _ = read(lines(document), options=options)
    assert copy.ask.session_id == copy.answer.result.session_id == ONE
    assert (copy.ask.dt, copy.ask.created_at) == (date(2026, 2, 27), 1772236799.5)
    assert copy.ask.attributes == (("plan", "gold"), ("Confidence", "99.5"))


def test_source_is_the_documents_own_or_the_given_one() -> None:
    """With several sources a document that names none is refused, unless one was given."""
    text = lines(answer(ONE, source="eu"), answer(TWO))
    found, rejects = read(text, rules=Rules(DT, ("eu", "us"), None, NOW))
    assert ([copy.source for copy in found], rejects) == (["eu"], [(2, "has no source, and [sources] has several")])
    found, rejects = read(text, rules=Rules(DT, ("eu", "us"), "us", NOW))
    assert [copy.source for copy in found] == ["eu", "us"]


def metadata(**members: Any) -> dict[str, Any]:
    return {"HTTPStatusCode": 200, "HTTPHeaders": {"date": "Sun, 01 Mar 2026 12:00:30 GMT"}, **members}


TOLD = CREATED_AT.timestamp() + 30
TIMES: list[tuple[dict[str, Any], float | None, int]] = [
    ({"ResponseMetadata": metadata(RetryAttempts=2)}, TOLD, 3),
    ({"fetched_at": "2026-03-01T12:00:30.250Z", "ResponseMetadata": metadata()}, TOLD + 0.25, 1),
    ({"fetched_at": int(TOLD * 1000)}, TOLD, 1),
    ({"fetched_at": "soon", "ResponseMetadata": metadata()}, TOLD, 1),
    ({}, None, 1),
    ({"fetched_at": True}, None, 1),
    ({"fetched_at": 0}, None, 1),
    ({"fetched_at": "2027-01-01"}, None, 1),
    ({"ResponseMetadata": metadata(HTTPHeaders={"date": "no date"}, RetryAttempts=-1)}, None, 1),
    ({"ResponseMetadata": metadata(HTTPHeaders={"date": "Sun, 01 Mar 99999999999 12:00:30 GMT"})}, None, 1),
    ({"ResponseMetadata": {"HTTPHeaders": [], "RetryAttempts": "1"}}, None, 1),
    ({"ResponseMetadata": []}, None, 1),
]


@pytest.mark.parametrize(("members", "fetched_at", "attempts"), TIMES)
def test_when_and_after_how_many_calls_is_what_the_copy_tells(
    members: dict[str, Any], fetched_at: float | None, attempts: int
) -> None:
    """Its own member first, then AWS's header; unknown where neither is a plausible time."""
    (copy,), rejects = read(lines(answer(**members)))
    assert (copy.fetched_at, copy.attempts, rejects) == (fetched_at, attempts, [])


def test_image_bytes_show_in_no_repr() -> None:
    """Copies may end in a traceback or a log."""
    (copy,), _ = read(lines(answer(ReferenceImage={"Bytes": "b'face'"})))
    assert "face" not in f"{copy!r}{[copy]}"
