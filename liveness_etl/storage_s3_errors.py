"""What goes wrong in S3, in sentences for the user: the one place where botocore's errors become ours."""

import contextlib
from collections.abc import Iterator
from typing import Final

import botocore.exceptions
import botocore.parsers

from liveness_etl.errors import Conflict, Missing, StoreError, Unavailable
from liveness_etl.masking import masked

_PERMISSIONS: Final = {
    "list": "s3:ListBucket",
    "read": "s3:GetObject",
    "write": "s3:PutObject",
    "delete": "s3:DeleteObject",
    "list the versions of": "s3:ListBucketVersions",
    "erase versions of": "s3:ListBucketVersions, s3:DeleteObject and s3:DeleteObjectVersion",
    "erase an object in": "s3:ListBucketVersions, s3:DeleteObject and s3:DeleteObjectVersion",
}
_NO_ANSWER: Final = (
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.ConnectionError,
    botocore.exceptions.IncompleteReadError,
)
_BAD_CREDENTIALS: Final = {"SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken", "InvalidToken"}


@contextlib.contextmanager
def translated_s3_errors(verb: str, uri: str) -> Iterator[None]:
    """botocore's errors as StoreError in one sentence: Conflict (412, 409), Missing (404), Unavailable (503, …)."""
    try:
        yield
    except botocore.exceptions.ClientError as error:
        said = error.response.get("Error", {})
        code = str(said.get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in {"PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchUpload"}:
            raise Conflict(f"{uri} was changed by somebody else") from None
        if code in {"NoSuchKey", "404"}:
            raise Missing(f"{uri} is gone") from None
        kind = Unavailable if status >= 500 or status == 429 or code == "RequestTimeout" else StoreError
        on_key = "kms" in f"{code} {said.get('Message')}".lower()
        reason = f"the KMS key cannot be used ({code}); check kms_key_id and who may use it" if on_key else ""
        raise kind(f"cannot {verb} {uri}: {reason or reason_of(code, verb)}") from None
    except _NO_ANSWER as error:
        # botocore's own words hold the object's whole address.
        reason = f"S3 did not answer ({type(error).__name__}); check the network and the endpoint"
        raise Unavailable(f"cannot {verb} {uri}: {reason}") from None
    except botocore.exceptions.BotoCoreError as error:
        raise StoreError(f"cannot {verb} {uri}: {masked(str(error))}") from None
    except (botocore.parsers.ResponseParserError, RecursionError):  # quotes the body; a 301 without a region
        raise StoreError(f"cannot {verb} {uri}: the answer is none of S3's") from None
    except OSError as error:
        raise StoreError(f"cannot {verb} {uri}: {error.strerror or error}") from None


def reason_of(code: str, verb: str) -> str:
    """What an error code of S3 means to somebody who wanted to list, read, write or delete."""
    if code == "NoSuchBucket":
        return "there is no such bucket; create it first"
    if code in _BAD_CREDENTIALS:
        return f"S3 refuses the credentials ({code}); check AWS_PROFILE, or the access key and its secret"
    if code in {"AccessDenied", "403"}:
        return f"access denied; these credentials need {_PERMISSIONS[verb]} there, in the bucket's policy too"
    return masked(code)[:100]
