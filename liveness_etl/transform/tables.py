"""The table contract: the schema of every Parquet file this program writes, with its column comments.

A comment stands in the Arrow field's metadata under `comment`, and so in the Parquet file. `not null` stands
only where this program makes the value; what the API gives may be absent.

The contract's version stands in every file, and an output may hold files of several versions of this program. A new
column that may be NULL leaves the version as it is: an older program passes over it, and carries it along where it
writes landing rows again. Any other change makes a new version (a type, a name, a meaning, a member of a struct): a
newer program reads what every older one wrote, and an older program refuses what a newer one wrote (NewerContract).
"""

from typing import Final

import pyarrow as pa

CONTRACT_VERSION: Final = "1"
"""Written into every file as `liveness_etl.contract_version`; a file without it counts as one of version 1."""

TABLES: Final = ("challenges", "bounding_boxes", "feedback", "sessions")
"""The tables made from landing, in the order in which they are replaced: children first."""


def _field(name: str, kind: pa.DataType, comment: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"comment": comment})


_TIME: Final = pa.timestamp("ms", "UTC")
_TEXT_MAP: Final = pa.map_(pa.string(), pa.string())

_SESSION_ID: Final = _field(
    "session_id", pa.string(), "Face Liveness session id, a lower-case UUID; join on dt and session_id", nullable=False
)
_SOURCE: Final = _field("source", pa.string(), "name of the account and region it was asked of", nullable=False)
_REGION: Final = _field("region", pa.string(), "AWS region that was asked", nullable=False)
_STATUS: Final = _field(
    "status",
    pa.string(),
    "Status as answered: SUCCEEDED, FAILED, EXPIRED, CREATED, IN_PROGRESS; NULL: no answer came",
)
_CONFIDENCE: Final = _field(
    "confidence", pa.float64(), "0 to 100 as answered: how sure the service is of a live person; NULL: no score, not 0"
)
_SDK_TYPE: Final = _field(
    "sdk_type", pa.string(), "Metadata.SDKType as answered: what the client calls itself; NULL: not said"
)
_CREATED_AT: Final = _field(
    "created_at", _TIME, "when the session was created, as the manifest says, UTC; NULL: it does not say"
)
_FETCHED_AT: Final = _field(
    "fetched_at", _TIME, "when this answer or last error came, UTC; NULL: never asked, or a copy does not tell"
)
_ATTEMPTS: Final = _field(
    "attempts", pa.int32(), "calls that this answer took, not tries of the person; 0: never asked", nullable=False
)
_ERROR_CODE: Final = _field(
    "error_code",
    pa.string(),
    "what is wrong: AWS's code, or ConnectionError, TimeoutError, UnreadableAnswer, ImageNotStored, NotAsked; "
    "NULL: nothing",
)
_ERROR_MESSAGE: Final = _field(
    "error_message", pa.string(), "what came with error_code, account numbers and ARNs masked"
)
_ATTRIBUTES: Final = _field(
    "attributes", _TEXT_MAP, "the manifest line's columns of manifest.attributes, by name; see attr_NAME in results"
)
_RUN_ID: Final = _field("run_id", pa.string(), "the run that asked", nullable=False)

BOX: Final = pa.struct([(side, pa.float64()) for side in ("left", "top", "width", "height")])
IMAGE: Final = pa.struct(
    [
        ("image_type", pa.string()),
        ("image_index", pa.int32()),
        ("box", BOX),
        ("s3_bucket", pa.string()),
        ("s3_name", pa.string()),
        ("s3_version", pa.string()),
        ("image_uri", pa.string()),
        ("image_sha256", pa.string()),
        ("image_size_bytes", pa.int32()),
    ]
)

LANDING: Final = pa.schema(
    [
        _SESSION_ID,
        _SOURCE,
        _REGION,
        _STATUS,
        _CONFIDENCE,
        _field("challenge", pa.struct([("type", pa.string()), ("version", pa.string())]), "Challenge"),
        _SDK_TYPE,
        _field("images", pa.list_(IMAGE), "ReferenceImage and AuditImages, references only"),
        _field("feedback", pa.list_(pa.struct([("code", pa.string()), ("message", pa.string())])), "Feedback"),
        _CREATED_AT,
        _FETCHED_AT,
        _ATTEMPTS,
        _ERROR_CODE,
        _ERROR_MESSAGE,
        _ATTRIBUTES,
        _RUN_ID,
    ]
)

SESSIONS: Final = pa.schema(
    [
        _SESSION_ID,
        _SOURCE,
        _REGION,
        _field(
            "outcome",
            pa.string(),
            "status where an answer came, else error_code: the column to group by",
            nullable=False,
        ),
        _STATUS,
        _CONFIDENCE,
        _SDK_TYPE,
        _CREATED_AT,
        _FETCHED_AT,
        _ATTEMPTS,
        _ERROR_CODE,
        _ERROR_MESSAGE,
        _ATTRIBUTES,
        _RUN_ID,
    ]
)

CHALLENGES: Final = pa.schema(
    [
        _SESSION_ID,
        _field("type", pa.string(), "Challenge.Type as answered, such as FaceMovementChallenge"),
        _field("version", pa.string(), "Challenge.Version as answered, such as 2.0.0"),
    ]
)

BOUNDING_BOXES: Final = pa.schema(
    [
        _SESSION_ID,
        _field("image_type", pa.string(), "reference (one at most) or audit (four at most)", nullable=False),
        _field("image_index", pa.int32(), "position in the answer, from 0; 0 for the reference image", nullable=False),
        *(
            _field(f"box_{side}", pa.float64(), f"share of the image's {of}, may lie outside 0-1; NULL: no box")
            for side, of in (("left", "width"), ("top", "height"), ("width", "width"), ("height", "height"))
        ),
        _field("s3_bucket", pa.string(), "S3Object.Bucket as answered; NULL: no S3Object came"),
        _field("s3_name", pa.string(), "S3Object.Name as answered, the key in that bucket"),
        _field("s3_version", pa.string(), "S3Object.Version as answered; NULL: none was named"),
        _field(
            "image_uri",
            pa.string(),
            "s3://bucket/name, or file://… percent-encoded; NULL: bytes discarded or not stored",
        ),
        _field("image_sha256", pa.string(), "of bytes that came in the answer, hexadecimal; NULL: an S3Object came"),
        _field("image_size_bytes", pa.int32(), "of bytes that came in the answer; NULL: an S3Object came"),
    ]
)

FEEDBACK: Final = pa.schema(
    [
        _SESSION_ID,
        _field("feedback_index", pa.int32(), "position in the answer, from 0", nullable=False),
        _field("code", pa.string(), "Feedback.Code as answered, such as LOW_LIGHTING_DETECTED"),
        _field("message", pa.string(), "Feedback.Message as answered: the code in words"),
    ]
)


def _count(name: str, comment: str) -> pa.Field:
    return _field(name, pa.int64(), comment, nullable=False)


RUNS: Final = pa.schema(
    [
        _field("run_id", pa.string(), "id of the run; later runs sort after earlier ones", nullable=False),
        _field("flow_run_id", pa.string(), "Prefect's id of the flow run, if there was one"),
        _field("started_at", _TIME, "when the run started, UTC; dt is its date", nullable=False),
        _field("finished_at", _TIME, "when it ended, UTC; NULL: it was killed, or still works"),
        _field("command", pa.string(), "run, sweep or import", nullable=False),
        _field("manifest_uri", pa.string(), "where the manifest was read, without a query string", nullable=False),
        _field("manifest_sha256", pa.string(), "of the bytes of all its files, hexadecimal; NULL: they grew"),
        _field("version", pa.string(), "version of liveness-etl", nullable=False),
        _count("lines", "lines of the manifest: requested + duplicates + rejected + forgotten"),
        _count("requested", "distinct valid ids: already_final + landed + not_asked"),
        _count("duplicates", "lines that repeat an earlier line's id"),
        _count("rejected", "malformed lines; see rejects"),
        _count("forgotten", "lines whose id was erased"),
        _count("already_final", "ids not asked again, since what was known of them is final"),
        _count("landed", "ids whose answer (or last error) this run landed"),
        _count("not_asked", "ids that this run did not reach"),
        _count("calls", "calls of GetFaceLivenessSessionResults"),
        _count("throttled_calls", "calls that were throttled"),
        _count("retried_calls", "calls that were not the first of their id"),
        _field("by_outcome", pa.map_(pa.string(), pa.int64()), "this run's rows by outcome"),
        _count(
            "expired_before_fetch", "ids with a created_at, first asked later than sweep.session_ttl_seconds after it"
        ),
        _field(
            "completed", pa.bool_(), "the run ended by itself; false: killed, stopped, or still at work", nullable=False
        ),
        _field(
            "unmodelled_members",
            pa.map_(pa.string(), pa.int64()),
            "answers that held a member which the installed botocore does not know, by its name; NULL in older files",
        ),
    ]
)

REJECTS: Final = pa.schema(
    [
        _field("run_id", pa.string(), "the run that read the manifest", nullable=False),
        _field("manifest_uri", pa.string(), "the file that holds the line", nullable=False),
        _field("line_number", pa.int64(), "physical line from 1, header included", nullable=False),
        _field("reason", pa.string(), "why it was rejected; never the line itself", nullable=False),
    ]
)

SCHEMAS: Final = {
    "sessions": SESSIONS,
    "challenges": CHALLENGES,
    "bounding_boxes": BOUNDING_BOXES,
    "feedback": FEEDBACK,
    "runs": RUNS,
    "rejects": REJECTS,
}
"""Every table by name, as users see it; each also has the partition column `dt` in its path."""
