"""The Prefect API that `flows/` would use, asked over plain HTTP: this package does not import Prefect."""

import base64
import json
import tomllib
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from liveness_etl.doctor.finding import Finding

_CHECK: Final = "Prefect API"
_TIMEOUT_SECONDS: Final = 5.0
_MOST_BYTES: Final = 10_000


def prefect_finding(environ: Mapping[str, str]) -> Finding:
    """Whether the API of PREFECT_API_URL (in the environment, or Prefect's active profile) answers, and its version."""
    settings = {**_profile(environ), **environ}
    url = settings.get("PREFECT_API_URL")
    if not url:
        return Finding("ok", _CHECK, "PREFECT_API_URL is not set: a flow starts a server of its own while it runs")
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        parts, port = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        mend = "set it to http(s)://HOST:PORT/api, or unset it"
        return Finding("fail", _CHECK, "PREFECT_API_URL is no address", mend)
    place = f"{parts.scheme}://{parts.hostname}{port}"  # no password, no workspace
    base = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    headers = _authorization(settings, parts.username, parts.password)
    try:
        _get(f"{base}/health", headers)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            mend = "set PREFECT_API_KEY (or PREFECT_API_AUTH_STRING), or unset PREFECT_API_URL"
            return Finding("fail", _CHECK, f"{place} refuses the key (HTTP {error.code})", mend)
        return Finding("fail", _CHECK, f"{place} answers with HTTP {error.code}", "PREFECT_API_URL should end in /api")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        said = getattr(reason, "strerror", None) or type(reason).__name__
        mend = "start it (prefect server start), correct PREFECT_API_URL, or unset it"
        return Finding("fail", _CHECK, f"{place} does not answer ({said})", mend)
    return _version_finding(place, f"{base}/admin/version", headers)


def _version_finding(place: str, url: str, headers: Mapping[str, str]) -> Finding:
    try:
        told = json.loads(_get(url, headers))
        ours = version("prefect")
        theirs, mine = (tuple(int(part) for part in text.split(".")[:2]) for text in (told, ours))
    except (OSError, ValueError, AttributeError, PackageNotFoundError):  # Prefect Cloud does not say, and suits all
        return Finding("ok", _CHECK, f"{place} answers")
    what = f"{place} is Prefect {told[:40]}, and {ours} is installed here"
    if theirs[0] != mine[0]:
        return Finding("fail", _CHECK, what, "use the same major version on both sides")
    if theirs < mine:
        return Finding("warn", _CHECK, what, "upgrade the server: it should not be older than its clients")
    return Finding("ok", _CHECK, what)


def _get(url: str, headers: Mapping[str, str]) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=_TIMEOUT_SECONDS) as answer:
        body: bytes = answer.read(_MOST_BYTES)
        return body


def _authorization(settings: Mapping[str, str], user: str | None, password: str | None) -> dict[str, str]:
    basic = settings.get("PREFECT_API_AUTH_STRING") or (f"{unquote(user)}:{unquote(password or '')}" if user else None)
    if basic:
        return {"Authorization": f"Basic {base64.b64encode(basic.encode()).decode()}"}
    key = settings.get("PREFECT_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _profile(environ: Mapping[str, str]) -> dict[str, str]:
    """What `prefect config set` has put into the active profile."""
    home = Path(environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    path = Path(environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        profiles = tomllib.loads(path.read_text())
        active = environ.get("PREFECT_PROFILE") or profiles["active"]
        return {name: str(value) for name, value in profiles["profiles"][active].items()}
    except (OSError, ValueError, KeyError, AttributeError):
        return {}
