"""What the worker processes run: seal and verify one file, stamp one, make one to try with.

Paths in, facts out; no database, no socket.

`start` runs once in each process, limits its memory and never fails, so that a key that is missing today is a reason
to wait and not a dead worker: key and roots are loaded at the first document, and again at the next as long as they
cannot be used. A new PKCS#12 file in the place of one that expired is therefore enough.

Unavailable: no usable key, no time-stamp, no room for the result; the document waits. Refused: the document
cannot be sealed, or what came out did not verify. NotFound: the source is gone.
"""

import datetime as dt
import hashlib
import logging
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pikepdf
from cryptography import x509

from .. import clock
from ..config import SealSettings
from ..errors import ConfigError, NotFound, Refused, Unavailable
from ..invoices import InvoiceFacts
from ..keys import cms
from ..keys.load import SigningKey, load_pkcs12
from ..keys.trust import Trust, load_certificates
from . import document, duplicate, pades, trial
from .validate import IssuerSeal, full_validate, verify_issuer_seal
from .verify import certificate_facts, verify

_MEMORY = 1 << 30  # of a process: the largest document accepted takes a small part of it
_INFLATED = 64_000_000  # of one stream, where qpdf inflates it


@dataclass(frozen=True)
class SealSetup:
    """What a worker needs of the settings; it is sent to the process once."""

    certificate: Path | None
    password_file: Path | None
    trust: tuple[Path, ...]
    issuer_certificates: tuple[Path, ...]
    reason: str
    verify_sample: int
    level: str

    @classmethod
    def of(cls, settings: SealSettings) -> "SealSetup":
        """From the section [seal]."""
        return cls(
            settings.certificate,
            settings.password_file,
            settings.trust,
            settings.issuer_certificates,
            settings.reason,
            settings.verify_sample,
            settings.level,
        )


@dataclass(frozen=True)
class SealResult:
    """One sealed document; the facts of its row in the table `seal`, and its size.

    `made_by`: `gateway`, or `issuer` when it arrived sealed and was kept as it is: then `sha256` is the source's
    and the target was not written.
    """

    sha256: str
    size: int
    level: str
    made_by: str
    signer: str
    signer_issuer: str
    signer_serial: str
    certificate_sha256: str
    sealed_at: dt.datetime
    verification: dict[str, Any]


@dataclass(frozen=True)
class _Keys:
    """What a setup's paths hold."""

    key: SigningKey | None
    trust: Trust
    issuer_certificates: tuple[x509.Certificate, ...]


class _Worker:
    """The state of one process: its setup, the keys once they were loaded, how many documents it sealed."""

    def __init__(self, setup: SealSetup) -> None:
        self.setup = setup
        self._keys: _Keys | None = None
        self._sealed = 0

    def seal(self, source: Path, target: Path, sha256: str) -> SealResult:
        if self.setup.level != "B-B":
            raise Unavailable(f"level {self.setup.level} is set and no time-stamp could be had", code="no_timestamp")
        received, now = _read_unchanged(source, sha256), clock.now()
        with document.opened(received) as pdf:
            arrived_signed = bool(document.signatures(received, pdf))
        keys = self._load()
        if arrived_signed:
            by_issuer = verify_issuer_seal(received, keys.issuer_certificates, keys.trust, now)
            if by_issuer is not None:
                return _kept(received, by_issuer)
        key = self._usable_key(keys, now)
        _write(target, pades.seal(received, key, self.setup.reason, now))
        sealed = _read(target)
        record = verify(sealed, received, (key.certificate, *key.chain), keys.trust, now)
        if arrived_signed or self._sealed % self.setup.verify_sample == 0:
            record["full_validation"] = full_validate(sealed, keys.trust, now)
        self._sealed += 1
        return _result(sealed, "B-B", "gateway", key.certificate, now, record)

    def check(self, source: Path) -> None:
        keys = self._load()
        verify_issuer_seal(_read(source), keys.issuer_certificates, keys.trust, clock.now())

    def sign(self, source: Path, target: Path) -> None:
        now = clock.now()
        key = self._usable_key(self._load(), now)
        _write(target, cms.sign(key, hashlib.sha256(_read(source)).digest(), now))

    def _load(self) -> _Keys:
        if self._keys is None:
            try:
                self._keys = _load(self.setup)
            except ConfigError as error:
                raise Unavailable(_without_folder(error), code="no_key") from None
        return self._keys

    def _usable_key(self, keys: _Keys, now: dt.datetime) -> SigningKey:
        if keys.key is None:
            raise Unavailable("no key to seal with is configured", code="no_key")
        try:
            keys.key.check(now)
            keys.trust.validate(keys.key.certificate, keys.key.chain, now)
        except Unavailable:
            self._keys = None  # the file may be replaced by then
            raise
        except Refused as error:
            self._keys = None
            raise Unavailable(f"the seal's own certificate: {error.message}", code="no_key") from None
        return keys.key


_worker: _Worker | None = None


def start(setup: SealSetup) -> None:
    """Limit and prepare this process, a worker; to be called once, before anything else here."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold the key
    pikepdf.settings.set_qpdf_limits(
        flate_max_memory=_INFLATED, png_max_memory=_INFLATED, tiff_max_memory=_INFLATED, run_length_max_memory=_INFLATED
    )
    prepare(setup)


def prepare(setup: SealSetup) -> None:
    """Begin anew with this setup, without limits."""
    global _worker
    for library in ("pyhanko", "pyhanko_certvalidator", "pikepdf"):
        logging.getLogger(library).setLevel(logging.ERROR)  # what they warn of, with tracebacks, is in our verdicts
    _worker = _Worker(setup)


def seal_file(source: str, target: str, sha256: str) -> SealResult:
    """Seal the document at `source` into `target` (not fsynced), unless it is the issuer's already; verify it.

    `sha256`: of the bytes that were received; the store's are sealed only if they are the same (`bytes_changed`).
    What is verified is what was written, read again. The first document of a process, one in `verify_sample`,
    and each that carries somebody's signature also go through pyHanko's validator.
    """
    if _worker is None:
        raise RuntimeError("start() was not called in this process")
    return _worker.seal(Path(source), Path(target), sha256)


def check_file(source: str) -> None:
    """Check the signatures that a document arrives with; Refused when one is broken, expired, or followed by changes.

    Unavailable when the roots or the issuer's certificates cannot be read: nothing is accepted unchecked.
    """
    if _worker is None:
        raise RuntimeError("start() was not called in this process")
    _worker.check(Path(source))


def sign_file(source: str, target: str) -> None:
    """Write a detached CMS signature (DER) over the file at `source` to `target` (not fsynced).

    Unavailable: no usable key. For what the gateway itself wrote: a client's bytes are never signed by it.
    """
    if _worker is None:
        raise RuntimeError("start() was not called in this process")
    _worker.sign(Path(source), Path(target))


def stamp_file(source: str, target: str, sha256: str, language: str) -> tuple[str, int]:
    """Write the duplicate of the document at `source`, whose SHA-256 it names, to `target` (not fsynced).

    Its own SHA-256, and its size in bytes.
    """
    stamped = duplicate.stamp(_read_unchanged(Path(source), sha256), sha256, language)
    _write(Path(target), stamped)
    return hashlib.sha256(stamped).hexdigest(), len(stamped)


def test_file(facts: InvoiceFacts, target: str) -> int:
    """Write the PDF of a client's test document to `target` (not fsynced); its size in bytes."""
    made = trial.make(facts)
    _write(Path(target), made)
    return len(made)


def _load(setup: SealSetup) -> _Keys:
    key = None if setup.certificate is None else load_pkcs12(setup.certificate, setup.password_file)
    issuers = [one for path in setup.issuer_certificates for one in load_certificates(path)]
    if key is not None:  # what it sealed needs no second seal by it
        issuers.append(key.certificate)
    return _Keys(key, Trust.load(setup.trust), tuple(issuers))


def _without_folder(error: ConfigError) -> str:
    path = Path(str(error.facts["where"]))
    return error.message.replace(str(path), path.name)


def _kept(received: bytes, seal: IssuerSeal) -> SealResult:
    return _result(received, seal.level, "issuer", seal.certificate, seal.sealed_at, seal.record)


def _result(
    sealed: bytes,
    level: str,
    made_by: str,
    certificate: x509.Certificate,
    sealed_at: dt.datetime,
    record: dict[str, Any],
) -> SealResult:
    facts = certificate_facts(certificate)
    return SealResult(
        sha256=hashlib.sha256(sealed).hexdigest(),
        size=len(sealed),
        level=level,
        made_by=made_by,
        signer=facts["subject"],
        signer_issuer=facts["issuer"],
        signer_serial=facts["serial"],
        certificate_sha256=facts["certificate_sha256"],
        sealed_at=sealed_at,
        verification=record,
    )


def _read_unchanged(path: Path, sha256: str) -> bytes:
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Refused("the store holds other bytes than were received", code="bytes_changed")
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound("the document's bytes are missing", code="bytes_missing") from None
    except OSError as error:
        raise Unavailable(f"the document's bytes cannot be read: {error.strerror}") from None


def _write(path: Path, content: bytes) -> None:
    try:
        with path.open("wb") as file:
            file.write(content)
    except OSError as error:
        raise Unavailable(f"the result cannot be written: {error.strerror}") from None
