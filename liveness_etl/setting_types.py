"""What one value of the configuration must look like: the field types of settings.py, and nothing else.

A check raises ValueError with the rest of a sentence that begins with the key ("must be …"). It does not
repeat the value, which may be secret.
"""

import re
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo

from liveness_etl.endpoints import check_endpoint


def _matches(pattern: str, expected: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {expected}")
        return value

    return AfterValidator(check)


def _not_a_boolean(value: object) -> object:
    # To Python, and so to pydantic, true is the number 1.
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


def _split_commas(value: object) -> object:
    return [item.strip() for item in value.split(",")] if isinstance(value, str) else value


def _known_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("must be a name of the IANA time zone database, like Europe/Berlin") from None
    return name


def _https(url: SecretStr) -> SecretStr:
    if not re.fullmatch(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[!-~]*)?", url.get_secret_value()):
        raise ValueError("must be an https:// URL")
    return url


def _trusted_endpoint(url: str, info: ValidationInfo) -> str:
    check_endpoint(url, (info.context or {}).get("allow_endpoints", ()))
    return url


Text = Annotated[str, _matches(r"(?=.*\S)[^\x00-\x1f\x7f]+", "text, and not empty")]
TextList = Annotated[tuple[Text, ...], BeforeValidator(_split_commas)]
BucketName = Annotated[str, _matches(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "the name of an S3 bucket")]
BucketNameList = Annotated[tuple[BucketName, ...], BeforeValidator(_split_commas)]
AccountId = Annotated[str, _matches(r"[0-9]{12}", "an AWS account number: 12 digits, in quotes")]
RoleArn = Annotated[
    str,
    _matches(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+", "like arn:aws:iam::123456789012:role/NAME"),
]
TopicArn = Annotated[
    str,
    _matches(
        r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]+",
        "like arn:aws:sns:eu-west-1:123456789012:NAME",
    ),
]
MemorySize = Annotated[str, _matches(r"[1-9][0-9]*(\.[0-9]+)? ?[KMGT]i?B", "a size like 1GB, 512MB or 2GiB")]
SourceName = Annotated[  # it ends up in file names
    str,
    _matches(
        r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}",
        "a name of up to 64 letters, digits, '_', '.' and '-' that begins with a letter or digit",
    ),
]
EndpointUrl = Annotated[str, AfterValidator(_trusted_endpoint)]
WebhookUrl = Annotated[SecretStr, AfterValidator(_https)]
TimeZoneName = Annotated[str, AfterValidator(_known_timezone)]

Integer = Annotated[int, BeforeValidator(_not_a_boolean)]
Number = Annotated[float, BeforeValidator(_not_a_boolean), Field(allow_inf_nan=False)]
Count = Annotated[Integer, Field(ge=1)]
InFlight = Annotated[Integer, Field(ge=1, le=512)]
Seconds = Annotated[Number, Field(gt=0, le=86_400)]
Rate = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(gt=0, le=1)]
ShareOrZero = Annotated[Number, Field(ge=0, le=1)]
Percent = Annotated[Number, Field(ge=0, le=100)]
