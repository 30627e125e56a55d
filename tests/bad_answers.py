"""Bad answers by name, each with the outcome that its id has to have. SECRET stands where nothing may be quoted."""

import base64
import itertools
import json
from typing import Any

from tests.hostile import Send, body, chunked, http, huge, members, raw, reset, text, then_close, trickling, zipped

SECRET = "SeCrEtOfTheAnswer"
IMAGE = base64.b64encode(f"\xff\xd8\xff{SECRET}".encode("latin-1")).decode()
GOOD = b'{"SessionId": "{id}", "Status": "SUCCEEDED"}'
OTHER = "00000000-0000-4000-8000-000000000000"
_BOX = {"Left": 0.1, "Top": 0.1, "Width": 0.5, "Height": 0.5}
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_FIFTY_MB = 50 * 1024 * 1024
_PIECE = b" " * 65536

LEGAL: dict[str, tuple[Send, str]] = {
    "an unknown status": (members(Status="PAUSED"), "PAUSED"),
    "only what is required": (members(Confidence=None), "SUCCEEDED"),
    "every member null": (
        text('"Confidence": null, "ReferenceImage": null, "AuditImages": null, "Challenge": null, "Feedback": null'),
        "SUCCEEDED",
    ),
    "empty structures": (members(ReferenceImage={}, AuditImages=[{}], Challenge={}, Feedback=[{}]), "SUCCEEDED"),
    "an empty image": (members(ReferenceImage={"Bytes": ""}), "SUCCEEDED"),
    "a bucket without a name": (members(ReferenceImage={"S3Object": {"Bucket": "b"}}), "SUCCEEDED"),
    "a box far outside": (members(ReferenceImage={"BoundingBox": _BOX | {"Left": -1e308}}), "SUCCEEDED"),
    "a hundred images": (members(AuditImages=[{"BoundingBox": _BOX}] * 100), "SUCCEEDED"),
    "a NUL in a text": (members(Feedback=[{"Code": "A\0B", "Message": "\0"}]), "SUCCEEDED"),
    "text of all kinds": (members(Feedback=[{"Code": "'; --", "Message": '\u202e\U0001f600\n\r\t,"'}]), "SUCCEEDED"),
    "unknown members": (text('"Deep": [[[{"a": [1e999, "x"]}]]], "\\ud800": 1'), "SUCCEEDED"),
    "good chunks": (chunked(GOOD[:7], GOOD[7:]), "SUCCEEDED"),
    "no length": (then_close(b"HTTP/1.1 200 OK\r\n\r\n" + GOOD), "SUCCEEDED"),
    "HTTP/1.0": (then_close(b"HTTP/1.0 200 OK\r\n\r\n" + GOOD), "SUCCEEDED"),
    "100 Continue first": (raw(b"HTTP/1.1 100 Continue\r\n\r\n" + http(GOOD, length=len(GOOD) + 32)), "SUCCEEDED"),
    "a whole answer that announces more": (then_close(http(GOOD, length=9999)), "SUCCEEDED"),
    "bytes after the answer": (raw(http(GOOD, length=len(GOOD) + 32) + http(b"{}") * 3), "SUCCEEDED"),
}
"""Odd, and yet answers."""

_WRONG_VALUES: dict[str, Send] = {
    "no id": members(SessionId=None),
    "another session's id": members(SessionId=OTHER),
    "an id of the wrong type": members(SessionId=[OTHER]),
    "no status": members(Status=None),
    "a status that is no text": members(Status=["SUCCEEDED"]),
    "an empty status": members(Status=""),
    "a status that is no name": members(Status=f"{SECRET} and\nmore"),
    "a status with a NUL": members(Status="SUCCEEDED\0"),
    "a status of a megabyte": members(Status="X" * 1_000_000),
    "a status in half a character": text('"Status": "\\ud800"'),
    "confidence as text": members(Confidence="99.5"),
    "confidence as bool": members(Confidence=True),
    "confidence as list": members(Confidence=[99.5]),
    "confidence NaN": text('"Confidence": NaN'),
    "confidence Infinity": text('"Confidence": Infinity'),
    "confidence -Infinity": text('"Confidence": -Infinity'),
    "confidence 1e308": members(Confidence=1e308),
    "confidence 1e999": text('"Confidence": 1e999'),
    "confidence below zero": members(Confidence=-0.5),
    "confidence of 5,000 digits": text(f'"Confidence": {"9" * 5000}'),
    "confidence of 400 digits": text(f'"Confidence": {"9" * 400}'),
    "a box of NaN": text('"ReferenceImage": {"BoundingBox": {"Left": NaN}}'),
    "a box of infinity": text('"ReferenceImage": {"BoundingBox": {"Left": 1e999}}'),
    "a box of texts": members(ReferenceImage={"BoundingBox": dict.fromkeys(_BOX, SECRET)}),
    "a box as list": members(ReferenceImage={"BoundingBox": [0.1, 0.1, 0.5, 0.5]}),
    "five thousand audit images": members(AuditImages=[{"BoundingBox": _BOX}] * 5000),
    "audit images as object": members(AuditImages={}),
    "audit images as text": members(AuditImages=""),
    "an audit image that is null": members(AuditImages=[{}, None]),
    "an audit image that is a text": members(AuditImages=[{}, SECRET]),
    "a reference image as list": members(ReferenceImage=[{"Bytes": IMAGE}]),
    "image bytes as number": members(ReferenceImage={"Bytes": 7}),
    "image bytes that are no base64": members(ReferenceImage={"Bytes": f"{IMAGE}%%%%"}),
    "image bytes without padding": members(ReferenceImage={"Bytes": "QQ"}),
    "an S3 object as text": members(ReferenceImage={"S3Object": SECRET}),
    "an S3 name as number": members(ReferenceImage={"S3Object": {"Bucket": "b", "Name": 7}}),
    "an S3 name of a megabyte": members(ReferenceImage={"S3Object": {"Bucket": "b", "Name": SECRET * 60_000}}),
    "a challenge as list": members(Challenge=[{"Type": SECRET}]),
    "a challenge as text": members(Challenge=""),
    "five thousand feedbacks": members(Feedback=[{"Code": "A"}] * 5000),
    "a feedback of a megabyte": members(Feedback=[{"Message": SECRET * 60_000}]),
    "half a character": text('"Feedback": [{"Message": "\\udc00"}]'),
    "metadata as text": members(Metadata=SECRET),
    "an image before a wrong member": members(ReferenceImage={"Bytes": IMAGE}, Confidence=SECRET),
    "an image before a wrong image": members(ReferenceImage={"Bytes": IMAGE}, AuditImages=[{"Bytes": 7}]),
    "a member twice": text('"Status": "FAILED"'),
    "a box side twice": text('"ReferenceImage": {"BoundingBox": {"Left": 0, "Left": 1}}'),
}

_NO_JSON: dict[str, Send] = {
    "an empty body": body(""),
    "an empty object": body("{}"),
    "null": body("null"),
    "a list": body(f'["{SECRET}"]'),
    "a text": body(f'"{SECRET}"'),
    "no JSON": body(SECRET),
    "JSON and more": body(GOOD + b"}"),
    "two answers": body(GOOD * 2),
    "cut JSON": body(GOOD[:-3]),
    "cut in half a character": body(GOOD[:-2] + b"\xc3"),
    "UTF-16": body(GOOD.decode().encode("utf-16")),
    "a byte order mark": body(b"\xef\xbb\xbf" + GOOD),
    "Latin-1": body(GOOD[:-1] + b', "Challenge": {"Type": "\xe9"}}'),
    "deep JSON": text(f'"Deep": {"[" * 100_000}{"]" * 100_000}'),
    "deep JSON without an end": body("[" * 1_000_000),
    "deep objects": body('{"a":' * 100_000),
    "an error in a 200": body(f'{{"__type": "ThrottlingException", "message": "{SECRET}"}}'),
    "a page in a 200": body(f"<html>{SECRET}</html>", headers="Content-Type: text/html\r\n"),
    "compressed": zipped(GOOD),
    "a bomb": zipped(b" " * _FIFTY_MB),
    "compressed in name alone": body(GOOD[:-3], headers="Content-Encoding: gzip\r\n"),
    "no content": raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "a cut body": then_close(http(GOOD[:-9], length=len(GOOD))),
    "announces less": raw(http(GOOD, length=20)),
    "50 MB": huge(http(b"", length=_FIFTY_MB), _PIECE, _FIFTY_MB // len(_PIECE)),
    "50 MB in chunks": huge(_CHUNKED, b"10000\r\n" + _PIECE + b"\r\n", 800),
    "50 MB without a length": huge(b"HTTP/1.1 200 OK\r\n\r\n", _PIECE, 800),
    "50 MB of an error": huge(http(b"", "500 No", length=_FIFTY_MB), _PIECE, 800),
    "5 MB that are right": text(f'"Deep": "{"x" * 5_000_000}"'),
}

_NO_HTTP: dict[str, tuple[Send, str]] = {
    "the end": (then_close(b""), "ConnectionError"),
    "no HTTP": (then_close(b"\x89PNG\r\n\r\n"), "ConnectionError"),
    "an odd status": (then_close(b"HTTP/1.1 two hundred\r\n\r\n"), "ConnectionError"),
    "a hundred thousand headers": (huge(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 1000, 100), "ConnectionError"),
    "a header of a megabyte": (huge(b"HTTP/1.1 200 OK\r\nX-A: ", b"x" * 1000, 1000), "ConnectionError"),
    "a reset": (reset(b""), "ConnectionError"),
    "a reset in the body": (reset(http(GOOD, length=9999)), "ConnectionError"),
    "a chunk of odd size": (then_close(_CHUNKED + b"zz\r\n" + GOOD), "ConnectionError"),
    "a chunk of negative size": (then_close(_CHUNKED + b"-5\r\n" + GOOD), "ConnectionError"),
    "a chunk that is cut": (then_close(_CHUNKED + b"fff\r\n" + GOOD), "ConnectionError"),
    "announces more": (raw(http(GOOD, length=9999)), "TimeoutError"),
    "announces nothing": (raw(b"HTTP/1.1 200 OK\r\n\r\n" + GOOD), "TimeoutError"),
    "chunks without an end": (chunked(b"{", end=b""), "TimeoutError"),
    "silence": (raw(b""), "TimeoutError"),
    "a trickle": (trickling(http(b"", length=9999), itertools.repeat(b" "), 0.1), "TimeoutError"),
    "a trickle in chunks": (trickling(_CHUNKED, itertools.repeat(b"1\r\n \r\n"), 0.1), "TimeoutError"),
}


def _error(code: Any, status: str = "400 Bad Request", message: Any = "as it were", headers: str = "") -> Send:
    return body(json.dumps({"__type": code, "message": message}), status, headers)


_ERRORS: dict[str, tuple[Send, str]] = {
    "an error page": (body(f"<html>{SECRET}</html>", "500 No"), "Http500"),
    "an error without a body": (body("", "503 No"), "Http503"),
    "an error of another kind": (body(f'{{"error": "{SECRET}"}}', "400 No"), "Http400"),
    "too large": (body(f"<html>{SECRET}</html>", "413 No"), "Http413"),
    "an error that is a list": (body(f'["{SECRET}"]', "400 No"), "UnreadableAnswer"),
    "an error that is deep": (body("[" * 100_000, "400 No"), "UnreadableAnswer"),
    "a code in a header alone": (body("{}", "400 No", "X-Amzn-ErrorType: Throttling\r\n"), "Http400"),
    "a code that is a number": (_error(400), "UnreadableAnswer"),
    "a code that is an object": (_error({SECRET: 1}), "UnreadableAnswer"),
    "a code of a megabyte": (_error("A" * 1_000_000), "UnknownError"),
    "a code with a newline": (_error(f"{SECRET}\nError"), "UnknownError"),
    "a code with a NUL": (_error("Some\0Exception"), "UnknownError"),
    "a code with an account number": (_error("Some123456789012Exception"), "UnknownError"),
    "a code in half a character": (_error("\ud800"), "UnknownError"),
    "a code of superscripts": (_error("²"), "UnknownError"),
    "a code that nobody knows": (_error("com.amazonaws#SomethingNewException"), "SomethingNewException"),
    "a message that holds an image": (_error("SomeException", message=IMAGE * 9), "SomeException"),
    "a message of a megabyte": (_error("SomeException", message="word " * 200_000), "SomeException"),
    "a message in half a character": (_error("SomeException", message="\ud800"), "SomeException"),
    "a message that is an object": (_error("SomeException", message={"a": ["b"]}), "SomeException"),
}


def redirects(elsewhere: str) -> dict[str, tuple[Send, str]]:
    """To another server, which is not to be asked."""
    return {
        f"a redirect by {status}": (
            body(GOOD, f"{status} Elsewhere", headers=f"Location: {elsewhere}/\r\n"),
            "UnknownError" if status == 300 else f"Http{status}",
        )
        for status in (300, 301, 302, 307, 308)
    }


def bad_answers(elsewhere: str) -> dict[str, tuple[Send, str]]:
    """All of them, the legal ones too, with their outcomes."""
    unreadable = {name: (send, "UnreadableAnswer") for name, send in (_WRONG_VALUES | _NO_JSON).items()}
    return LEGAL | unreadable | _NO_HTTP | _ERRORS | redirects(elsewhere)
