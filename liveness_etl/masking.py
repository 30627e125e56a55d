"""What others said, made fit for a row, a log line or a terminal."""

import re

_MASKS = (
    (re.compile(r"arn:[\w-]+:[^\s\"',;)]+"), "arn:***"),
    (re.compile(r"(?<!\d)\d{12}(?!\d)"), "************"),
    (re.compile(r"[A-Za-z0-9+/=_-]{64,}"), "***"),  # may be image data
)


def masked(message: str) -> str:
    """A service's message fit to be kept: no ARN, no account number, no long run of encoded bytes.

    For what a service or its SDK said, not for our own sentences: the time in a run id looks like an account.
    """
    message = message[:2000]
    for pattern, mask in _MASKS:
        message = pattern.sub(mask, message)
    return message.encode("utf-8", "replace").decode()[:500]


def masked_account(number: str) -> str:
    """An account number as AWS's own consoles hide it: its last four digits tell one of ours from another."""
    return f"********{number[-4:]}"
