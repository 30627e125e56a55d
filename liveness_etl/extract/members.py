"""An answer's JSON beside the installed botocore's model of it: members of a wrong type, and ones that it drops.

botocore passes over both in silence: an object where the model has a list is an empty list, base64 loses the
characters that do not belong there, and a member that the model does not know is gone.
"""

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from liveness_etl.extract.retry import CallFailed

UNMODELLED: Final = "UnmodelledMembers"
"""Under this name the parsed response carries the names of the members that botocore dropped."""

OTHER: Final = "(other)"
"""Stands for names that are no plain words, and for all beyond MOST_NAMES."""

MOST_NAMES: Final = 50

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
_BASE64: Final = f"{string.ascii_letters}{string.digits}+/".encode()
_NUMBERS: Final = ("float", "double", "integer", "long")
_Check = Callable[[Any, str, set[str]], None]


def check_members(output_shape: Any) -> Callable[..., None]:
    """A handler of botocore's event `before-parse`: raises CallFailed for a result that does not fit the shape, and
    leaves dotted names of members that the shape lacks under UNMODELLED; names, never values."""
    check = _check_of(output_shape)

    def before_parse(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
        if response_dict["status_code"] < 300:
            unmodelled: set[str] = set()
            check(_decoded(response_dict["body"]), "", unmodelled)
            customized_response_dict[UNMODELLED] = frozenset(unmodelled)

    return before_parse


def count_members(counts: Counter[str], names: Iterable[str]) -> None:
    """Count one answer's unmodelled members, a bounded number of different names."""
    beyond = False
    for name in names:
        if name in counts or len(counts) < MOST_NAMES:
            counts[name] += 1
        else:
            beyond = True
    if beyond:
        counts[OTHER] += 1


def _decoded(body: bytes) -> Any:
    try:
        return _DECODER.decode(body.decode())
    except (ValueError, RecursionError):  # no UTF-8, no JSON, a number of thousands of digits, too deep
        raise CallFailed("UnreadableAnswer", "the answer is no JSON") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise CallFailed("UnreadableAnswer", "the answer holds a member twice")
    return members


def _refuse_constant(name: str) -> None:
    raise CallFailed("UnreadableAnswer", "the answer holds a number that is none")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_object)


def _check_of(shape: Any) -> _Check:
    """The check of values of one shape: (value, dotted path, where to leave unmodelled names)."""
    if shape.type_name == "structure":
        return _structure(shape)
    if shape.type_name == "list":
        return _list(_check_of(shape.member))
    if shape.type_name == "blob":
        return _blob
    if shape.type_name == "string":
        return _text
    return _number if shape.type_name in _NUMBERS else _anything


def _structure(shape: Any) -> _Check:
    checks = {
        member.serialization.get("name", name): (_check_of(member), f"{name}.")
        for name, member in shape.members.items()
    }

    def check(value: Any, path: str, unmodelled: set[str]) -> None:
        if type(value) is not dict:
            raise _wrong_type(path)
        for name, inner in value.items():
            known = checks.get(name)
            if known is None:
                unmodelled.add(path + name if _NAME.fullmatch(name) else OTHER)
            elif inner is not None:
                known[0](inner, path + known[1], unmodelled)

    return check


def _list(check_entry: _Check) -> _Check:
    def check(value: Any, path: str, unmodelled: set[str]) -> None:
        if type(value) is not list:
            raise _wrong_type(path)
        for entry in value:
            check_entry(entry, path, unmodelled)

    return check


def _text(value: Any, path: str, unmodelled: set[str]) -> None:
    if type(value) is not str:
        raise _wrong_type(path)


def _number(value: Any, path: str, unmodelled: set[str]) -> None:
    if type(value) not in (int, float):
        raise _wrong_type(path)


def _blob(value: Any, path: str, unmodelled: set[str]) -> None:
    _text(value, path, unmodelled)
    digits = value.rstrip("=")
    # botocore decodes it: four times as cheap as to decode it here once more, only more strictly.
    stray = digits.encode("ascii", "replace").translate(None, _BASE64)
    if stray or len(value) % 4 or len(value) - len(digits) > 2:
        raise CallFailed("UnreadableAnswer", f"{path[:-1]} is no base64")


def _anything(value: Any, path: str, unmodelled: set[str]) -> None:
    pass


def _wrong_type(path: str) -> CallFailed:
    return CallFailed("UnreadableAnswer", f"{path[:-1] or 'the answer'} has the wrong type")
