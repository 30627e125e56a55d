"""IAM policies held against real requests: an evaluator, and a gate in front of the services that asks it.

The gate names the IAM actions that a request needs (AWS, 'Actions, resources, and condition keys for Amazon S3'), lets
it pass if the policy allows them all, and else answers 403 as S3 does. It also knows what is easily forgotten: a key
that is not there is a 404 only to those who may list, and KMS is called in the name of whoever reads or writes.
"""

import fnmatch
import http.client
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.http_services import Service, serving

FOLDER = Path(__file__).parents[2] / "config" / "iam"
KEY_HEADER = "x-amz-server-side-encryption-aws-kms-key-id"
GLUE = "arn:aws:glue:us-east-1:123456789012"


@dataclass(frozen=True)
class Need:
    """One IAM action on one resource; `prefix` is that of a listing, None for what is no listing."""

    action: str
    resource: str
    prefix: str | None = None


@dataclass
class Policy:
    """A policy of config/iam with its placeholders replaced; `used` holds (Sid, action, resource)."""

    statements: Sequence[Mapping[str, Any]]
    used: set[tuple[str, str, str]] = field(default_factory=set)

    @classmethod
    def read(cls, name: str, **values: str) -> "Policy":
        """OUTPUT_BUCKET="lake" replaces OUTPUT-BUCKET, and so on."""
        text = (FOLDER / f"{name}.json").read_text()
        for placeholder, value in values.items():
            text = text.replace(placeholder.replace("_", "-"), value)
        return cls(json.loads(text)["Statement"])

    def allows(self, need: Need) -> bool:
        """Whether a statement does; all that do count as used."""
        found = {
            (statement["Sid"], action, resource)
            for statement in self.statements
            for action in _listed(statement["Action"])
            for resource in _listed(statement["Resource"])
            if fnmatch.fnmatchcase(need.action, action)
            and fnmatch.fnmatchcase(need.resource, resource)
            and _condition_holds(statement.get("Condition", {}), need.prefix)
        }
        self.used |= found
        return bool(found)

    def granted(self) -> set[tuple[str, str, str]]:
        """All (Sid, action, resource) of the policy."""
        return {
            (statement["Sid"], action, resource)
            for statement in self.statements
            for action in _listed(statement["Action"])
            for resource in _listed(statement["Resource"])
        }


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _condition_holds(condition: Mapping[str, Any], prefix: str | None) -> bool:
    for operator, keys in condition.items():
        assert operator in ("StringLike", "StringLikeIfExists"), operator
        assert list(keys) == ["s3:prefix"], keys
        if prefix is None:
            if operator == "StringLike":
                return False
        elif not any(fnmatch.fnmatchcase(prefix, pattern) for pattern in _listed(keys["s3:prefix"])):
            return False
    return True


def needs(service: str, method: str, target: str, headers: Mapping[str, str], body: bytes) -> list[Need]:
    """The IAM actions that a request takes. Fails for a request that nobody has thought of."""
    if service == "sts":
        form = parse_qs(body.decode())
        action = form["Action"][0]
        return [] if action == "GetCallerIdentity" else [Need(f"sts:{action}", form["RoleArn"][0])]
    if service == "sns":
        form = parse_qs(body.decode())
        return [Need(f"sns:{form['Action'][0]}", form["TopicArn"][0])]
    if service in ("rekognition", "servicequotas"):
        return [Need(f"{service}:{headers['x-amz-target'].rpartition('.')[2]}", "*")]
    if service == "glue":
        return _glue_needs(headers["x-amz-target"].rpartition(".")[2], json.loads(body))
    assert service == "s3", service
    parts = urlsplit(target)
    bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
    query = parse_qs(parts.query, keep_blank_values=True)
    place = f"arn:aws:s3:::{bucket}"
    if not key:
        prefix = query.get("prefix", [None])[0]
        if method == "GET" and "list-type" in query:
            return [Need("s3:ListBucket", place, prefix)]
        if method == "GET" and "versions" in query:
            return [Need("s3:ListBucketVersions", place, prefix)]
        assert method == "POST"
        assert "delete" in query
        return [
            need
            for entry in re.findall(rb"<Object>(.*?)</Object>", body)
            for name in re.findall(rb"<Key>(.*?)</Key>", entry)
            for need in _deletion(f"{place}/{name.decode()}", of_version=b"<VersionId>" in entry)
        ]
    version = "Version" if "versionId" in query else ""
    if method in ("GET", "HEAD"):
        return [Need(f"s3:GetObject{version}", f"{place}/{key}")]
    if method == "DELETE":
        if "uploadId" in query:
            return [Need("s3:AbortMultipartUpload", f"{place}/{key}")]
        return _deletion(f"{place}/{key}", of_version=bool(version))
    assert method == "PUT" or "uploads" in query or "uploadId" in query
    assert "x-amz-copy-source" not in headers
    found = [Need("s3:PutObject", f"{place}/{key}")]
    if KEY_HEADER in headers:
        found.append(Need("kms:GenerateDataKey", headers[KEY_HEADER]))
        if "uploads" in query:
            found.append(Need("kms:Decrypt", headers[KEY_HEADER]))  # of the parts, to put them together
    return found


def _glue_needs(action: str, request: Mapping[str, Any]) -> list[Need]:
    # AWS Glue, 'Specifying AWS Glue resource ARNs': whoever uses a table needs its database and the catalog too.
    database = request.get("DatabaseName") or request.get("Name") or request["DatabaseInput"]["Name"]
    resources = ["catalog", f"database/{database}"]
    if "Table" in action:
        resources.append(f"table/{database}/{request.get('Name') or request['TableInput']['Name']}")
    return [Need(f"glue:{action}", f"{GLUE}:{resource}") for resource in resources]


def _deletion(resource: str, *, of_version: bool) -> list[Need]:
    # AWS, 'Required permissions for Amazon S3 API operations': s3:DeleteObject always, the other for a version.
    return [Need(f"s3:DeleteObject{kind}", resource) for kind in (("", "Version") if of_version else ("",))]


@contextmanager
def gate(policy: Policy, backends: Mapping[str, str], principal: str) -> Iterator[tuple[str, list[Need]]]:
    """The gate's address, and what it denied. Requests with other access keys than `principal` (those of an assumed
    role) are let through."""
    denied: list[Need] = []

    class Gate(Service):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # headers and body are two writes: the second would wait 40 ms

        def reply(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.content
            scope = re.search(r"Credential=([^/]+)/\d+/[^/]+/([^/]+)/aws4_request", headers["authorization"])
            assert scope
            held = scope[1] == principal
            wanted = needs(scope[2], self.command, self.path, headers, body) if held else []
            if not self._may(wanted):
                return
            back = http.client.HTTPConnection(urlsplit(backends[scope[2]]).netloc)
            back.request(self.command, self.path, body, {k: v for k, v in headers.items() if k != "expect"})
            answer = back.getresponse()
            content = answer.read()
            back.close()
            if held and self.command in ("GET", "HEAD") and scope[2] == "s3" and wanted[0].action == "s3:GetObject":
                key = answer.headers.get(KEY_HEADER)
                if key and self.command == "GET" and not self._may([Need("kms:Decrypt", key)]):
                    return
                bucket = wanted[0].resource.partition("/")[0]
                if answer.status == 404 and not self._may([Need("s3:ListBucket", bucket)]):
                    return
            self._pass_back(answer.status, content, answer.headers)

        def _may(self, wanted: Sequence[Need]) -> bool:
            missing = [need for need in wanted if not policy.allows(need)]
            denied.extend(missing)
            if missing:
                # What AWS says to S3 and to the others.
                text = f"<Error><Code>AccessDenied</Code><Message>{missing[0].action}</Message></Error>"
                self._pass_back(403, text.encode(), {"Content-Type": "application/xml"})
            return not missing

        def _pass_back(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                    self.send_header(name, value)
            length = headers.get("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    with serving(Gate) as url:
        yield url, denied
