"""What a made-up session answers: a pure function of (seed, session id).

Names, enums and limits are those of botocore's service model (rekognition 2016-06-27, 1.44.5). How scores,
challenges and feedback are spread is invented: two humps, a difference between the challenges, no more.
"""

import base64
import functools
import random
import struct
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from liveness_etl.local.config import LocalConfig
from liveness_etl.local.sessions import ImagePlan, draw, fraction

_LIVE_SHARE = 0.94
_SDK_TYPES = ("AmplifyWeb", "AmplifyAndroid", "AmplifyIOS")
_FEEDBACK = {
    "FACE_NOT_VISIBLE": "The face was not visible in part of the video.",
    "FACE_OBSTRUCTION_DETECTED": "Something covered part of the face.",
    "LOW_VIDEO_QUALITY_DETECTED": "The video quality was too low.",
    "FACE_NOT_ALIGNED": "The face was not aligned with the oval.",
    "EYES_CLOSED_DETECTED": "The eyes were closed.",
    "LOW_LIGHTING_DETECTED": "The lighting was too dark.",
    "HIGH_LIGHTING_DETECTED": "The lighting was too bright.",
}


class _Challenge(NamedTuple):
    type: str
    version: str
    live_spread: float
    """Mean distance of a live person's score from 100."""
    attack_shape: tuple[float, float]
    """Beta distribution of an attack's score / 100."""


_CHALLENGES = (
    _Challenge("FaceMovementAndLightChallenge", "2.0.0", 0.4, (1.2, 11.0)),
    _Challenge("FaceMovementAndLightChallenge", "1.5.0", 0.6, (1.3, 9.0)),
    _Challenge("FaceMovementAndLightChallenge", "1.0.0", 0.9, (1.4, 8.0)),
    _Challenge("FaceMovementChallenge", "1.0.0", 1.5, (1.6, 6.0)),
)
_CHALLENGE_WEIGHTS = (45, 25, 10, 20)
_STRUCTURES = ("Challenge", "Metadata", "ReferenceImage", "AuditImages", "Feedback", "BoundingBox", "S3Object")


def make_answer(config: LocalConfig, session_id: str, status: str, images: ImagePlan | None = None) -> dict[str, Any]:
    """The answer of GetFaceLivenessSessionResults, ready for JSON: what is absent is left out."""
    answer: dict[str, Any] = {"SessionId": session_id, "Status": status}
    if status not in ("SUCCEEDED", "FAILED"):
        return answer
    succeeded = status == "SUCCEEDED"
    chance = draw(config.seed, "answer", session_id)
    challenge = chance.choices(_CHALLENGES, _CHALLENGE_WEIGHTS)[0]
    is_live = succeeded and chance.random() < _LIVE_SHARE
    if chance.random() < 0.98:
        answer["Challenge"] = {"Type": challenge.type, "Version": challenge.version}
    if succeeded or chance.random() < 0.05:
        answer["Confidence"] = _confidence(chance, challenge, is_live)
    if chance.random() < 0.9:
        answer["Metadata"] = {"SDKType": chance.choice(_SDK_TYPES)}
    if succeeded:
        count = min(10, int(chance.expovariate(1.0 if is_live else 0.3)))
        if count:
            codes = chance.choices(list(_FEEDBACK), k=count)
            answer["Feedback"] = [{"Code": code, "Message": _FEEDBACK[code]} for code in codes]
    plan = images or _plan(config, session_id)
    if plan.mode != "none":
        answer.update(_images(config, plan, session_id, chance, succeeded))
    _add_members(answer, config.extra_members)
    return answer


def _add_members(members: dict[str, Any], extra: Mapping[str, Any]) -> None:
    for name, value in extra.items():
        there = members.get(name)
        if isinstance(value, Mapping) and isinstance(there, dict | list):
            for each in there if isinstance(there, list) else [there]:
                _add_members(each, value)
        elif name not in _STRUCTURES:
            members.setdefault(name, value)


def _confidence(chance: random.Random, challenge: _Challenge, is_live: bool) -> float:
    if is_live:
        # A gamma of shape one half piles up against 100: many at 99.9, few below 95.
        score = 100 - chance.gammavariate(0.5, 2 * challenge.live_spread)
    else:
        score = 100 * chance.betavariate(*challenge.attack_shape)
    return _single(max(0.0, min(100.0, score)))[0]


def _single(*values: float) -> tuple[float, ...]:
    """As the service gives them: single precision, hence figures like 99.92379760742188."""
    layout = f"{len(values)}f"
    return struct.unpack(layout, struct.pack(layout, *values))


def _plan(config: LocalConfig, session_id: str) -> ImagePlan:
    mode = config.image_mode
    if mode == "mixed":
        mode = "inline" if fraction(config.seed, "mode", session_id) < 0.5 else "s3"
    return ImagePlan(mode, config.image_bucket, config.image_prefix)


def _images(
    config: LocalConfig, plan: ImagePlan, session_id: str, chance: random.Random, succeeded: bool
) -> dict[str, Any]:
    images: dict[str, Any] = {}
    if chance.random() < (0.98 if succeeded else 0.15):
        images["ReferenceImage"] = _image(config, plan, session_id, chance, "reference")
    if chance.random() < (0.95 if succeeded else 0.3):
        count = min(plan.audit_limit, chance.choices(range(5), (10, 5, 15, 20, 50))[0] if succeeded else 1)
        images["AuditImages"] = [_image(config, plan, session_id, chance, f"audit-{index}") for index in range(count)]
    return images


def _image(config: LocalConfig, plan: ImagePlan, session_id: str, chance: random.Random, name: str) -> dict[str, Any]:
    image: dict[str, Any] = {}
    if plan.mode == "inline":
        image["Bytes"] = inline_image(config, session_id, name)
    else:
        key = "/".join(part for part in (plan.prefix, session_id, f"{name}.jpg") if part)
        image["S3Object"] = {"Bucket": plan.bucket, "Name": key}
        if chance.random() < 0.8:
            image["S3Object"]["Version"] = f"{chance.getrandbits(128):032x}"
    if chance.random() < 0.96:
        image["BoundingBox"] = _box(chance)
    return image


def _box(chance: random.Random) -> dict[str, float]:
    width, height = chance.uniform(0.25, 0.55), chance.uniform(0.35, 0.7)
    left, top = (1 - width) * chance.random(), (1 - height) * chance.random()
    if chance.random() < 0.05:  # a face at the edge: the model allows ratios below 0 and above 1
        left = chance.choice((-width * chance.random(), 1 + 0.05 * chance.random()))
        top = chance.choice((-height * chance.random(), top, 1 + 0.05 * chance.random()))
    width, height, left, top = _single(width, height, left, top)
    return {"Width": width, "Height": height, "Left": left, "Top": top}


def inline_image(config: LocalConfig, session_id: str, name: str) -> str:
    """Base64 of `image_bytes` bytes that begin like a JPEG and differ from image to image.

    Only the first 24 bytes are made for each image: start of image, then a comment segment that holds a hash.
    24 is a multiple of three, so that the encoded rest, made once, can be joined to it.
    """
    unique = blake2b(f"{config.seed}:{session_id}:{name}".encode(), digest_size=18).digest()
    head = b"\xff\xd8\xff\xfe\x00\x14" + unique
    rest = _encoded_rest(config.image_bytes - len(head), config.image_marker)
    return base64.b64encode(head).decode() + rest


@functools.lru_cache(maxsize=8)
def _encoded_rest(size: int, marker: bytes) -> str:
    filler = random.Random(size).randbytes(size - len(marker) - 2)
    return base64.b64encode(marker + filler + b"\xff\xd9").decode()
