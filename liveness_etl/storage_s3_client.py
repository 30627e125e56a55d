"""The S3 client: one configuration for all that is read and written there."""

import functools
import io
import weakref
from importlib.metadata import version
from typing import Any

import boto3
import botocore.config
import botocore.exceptions
import botocore.loaders
import botocore.session

from liveness_etl.aws import make_client
from liveness_etl.errors import UsageError
from liveness_etl.masking import masked

# Seconds of silence, of the service while it works and (the first) of a connection that takes no more bytes. A choice:
# well above what S3 takes to answer, and short enough to be back soon after a peer that dropped everything. Ten tries
# of these and botocore's pauses are about two minutes, then landing and images are told that the store fails.
_ATTEMPTS = 10
_CONNECT_SECONDS = 5
_READ_SECONDS = 10

# What each client was made of, which botocore does not tell.
_sessions: weakref.WeakKeyDictionary[Any, botocore.session.Session] = weakref.WeakKeyDictionary()


@functools.cache
def _loader() -> botocore.loaders.Loader:
    """Keeps the model of S3: read for every client anew, it would cost each a tenth of a second."""
    return botocore.loaders.create_loader()


def s3_client(endpoint_url: str | None = None, region: str | None = None, profile: str | None = None) -> Any:
    """A boto3 S3 client from boto3's own credential chain. Raises UsageError for an unknown profile."""
    config = botocore.config.Config(
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        max_pool_connections=64,  # as many answers as may be waiting for their images
        tcp_keepalive=True,
        parameter_validation=False,  # names and numbers are our own
        # botocore builds its own User-Agent twice a call, a tenth of the call's CPU time.
        user_agent=f"liveness-etl/{version('liveness-etl')} Boto3/{boto3.__version__}",
    )
    try:
        core = botocore.session.Session()
        core.register_component("data_loader", _loader())
        session = boto3.session.Session(profile_name=profile, region_name=region, botocore_session=core)
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise UsageError(f"cannot set up S3: {masked(str(error))}") from None
    client = make_client(session, "s3", config, endpoint_url)
    client.meta.events.register("before-call.s3.PutObject", _send_at_once)
    _sessions[client] = core
    return client


def session_of(client: Any) -> botocore.session.Session:
    """What `s3_client` made the client of."""
    return _sessions[client]


def _send_at_once(params: dict[str, Any], **_: Any) -> None:
    """What is in memory goes out without a question first.

    botocore makes a file of it, asks with `Expect: 100-continue` whether it may send one, and reads the reply byte by
    byte: half of what an image takes. A real file is large, and keeps the question.
    """
    if isinstance(params.get("body"), io.BytesIO):
        params["body"] = params["body"].getvalue()
