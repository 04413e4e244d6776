"""Read one day's manifest and its signature from bytes that anybody may have written.

`read` says what the manifest holds and who signed it, or raises Refused with one sentence: JSON that is none or not of
the manifest's form (dropfolder/manifests.py), numbers with a gap or a double inside it, a signature that is not there
or does not fit. No input makes it raise anything else.
"""

import datetime as dt
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any, Literal

from cryptography.hazmat.primitives import hashes
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, field_validator

from ..dropfolder.manifests import FORMAT
from ..errors import Refused
from ..keys import cms
from ..keys.trust import Trust

NAME = re.compile(r"manifest-[0-9]{4}-[0-9]{2}-[0-9]{2}\.json")
MAX_BYTES = 200_000_000  # some 700,000 events on one day
MAX_SIGNATURE_BYTES = 100_000
_MOST = 1 << 62
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Event(BaseModel):
    """One number. Members that a later release adds are not refused: the signature covers them."""

    model_config = ConfigDict(strict=True)

    sequence: int = Field(ge=1, lt=_MOST)
    event: Literal["published", "published_again", "withdrawn"]
    at: str = Field(max_length=40)
    name: str = Field(min_length=1, max_length=255)
    sha256: _Digest
    size: int = Field(ge=0, lt=_MOST)
    number: str = Field(max_length=100)

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if name in (".", "..") or "/" in name or "\0" in name:
            raise ValueError("it is no name of a file")
        return name


class Previous(BaseModel):
    """The manifest before."""

    model_config = ConfigDict(strict=True)

    name: str = Field(pattern=rf"^{NAME.pattern}$")
    sha256: _Digest


class Manifest(BaseModel):
    """A day of a folder."""

    model_config = ConfigDict(strict=True)

    format: int
    issuer: str = Field(max_length=1000)
    folder: str = Field(min_length=1, max_length=100)
    day: str = Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
    first: int = Field(ge=1, lt=_MOST)
    last: int = Field(ge=0, lt=_MOST)
    count: int = Field(ge=0)
    events: Annotated[list[Event], FailFast()]
    previous: Previous | None

    @field_validator("day")
    @classmethod
    def _is_a_day(cls, day: str) -> str:
        dt.date.fromisoformat(day)
        return day

    @property
    def name(self) -> str:
        """Of its file."""
        return f"manifest-{self.day}.json"


@dataclass(frozen=True)
class Signature:
    """Who signed. `is_trusted`: the certificate leads to one that was given; else it is the one that came along."""

    subject: str  # distinguished name, RFC 4514
    certificate_sha256: str
    is_trusted: bool


@dataclass(frozen=True)
class Signed:
    """A manifest whose signature is good. `sha256`: of its bytes."""

    manifest: Manifest
    sha256: str
    signature: Signature


def read(name: str, content: bytes, signature: bytes, trust: Trust | None) -> Signed:
    """The manifest in a file of that name. `trust`: the certificates that were given; None: none was. Refused."""
    if not content:
        raise Refused("the file is empty")
    digest = hashlib.sha256(content)
    who = _signature(signature, digest.digest(), trust)  # first: what nobody signed is not worth reading
    return Signed(_manifest(name, content), digest.hexdigest(), who)


def _signature(der: bytes, digest: bytes, trust: Trust | None) -> Signature:
    try:
        signer = cms.verify(der, digest, timed=True)
        if trust is not None and signer.signed_at is not None:
            trust.validate(signer.certificate, signer.others, signer.signed_at)
        subject = signer.certificate.subject.rfc4514_string()
    except Refused as error:
        raise Refused(_SAID.get(error.code, error.message), code=error.code) from None
    except Exception as error:  # noqa: BLE001 - a hostile certificate makes its parser raise nearly anything
        raise Refused(f"the signer's certificate cannot be read ({type(error).__name__})") from None
    return Signature(subject, signer.certificate.fingerprint(hashes.SHA256()).hex(), trust is not None)


_SAID = {
    "cms_digest": "its signature is of other bytes: the file was changed after it was signed",
    "cms_signature": "its signature does not fit the certificate that it names: it is forged or damaged",
}


def _manifest(name: str, content: bytes) -> Manifest:
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_members, parse_constant=_refuse_constant)
        manifest = Manifest.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Refused(f"it has not the form of a manifest: {where or 'the whole'}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise Refused(f"it cannot be read as JSON ({str(error)[:100]})") from None
    _check(name, manifest)
    return manifest


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member stands there twice")
    return members


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _check(name: str, manifest: Manifest) -> None:
    if manifest.format != FORMAT:
        raise Refused(f"it is of format {manifest.format}, and this release knows format {FORMAT}")
    if PurePath(name).name != manifest.name:
        raise Refused(f"it is the manifest of {manifest.day}, under another day's name")
    if manifest.count != manifest.last - manifest.first + 1:
        raise Refused(
            f"it says that it holds {manifest.count} numbers, which {manifest.first} to {manifest.last} are not"
        )
    expected = manifest.first
    for event in manifest.events:
        if event.sequence != expected:
            what = "stands there twice" if event.sequence < expected else f"follows where {expected} is missing"
            raise Refused(f"inside it number {event.sequence} {what}")
        expected += 1
    if expected != manifest.last + 1:
        raise Refused(f"inside it number {expected} is missing: its events end there, and it says {manifest.last}")
