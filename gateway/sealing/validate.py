"""Have pyHanko's validator look at signatures: a sample of our seals, and every signature that arrives.

It follows ISO 32000 and ETSI EN 319 102-1, and compares the revisions of a document that was changed after it
was signed. It takes about ten times as long as verify.py. Nothing is fetched and revocation is not looked at.
"""

import asyncio
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pyhanko.version
from cryptography import x509
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.diff_analysis import ModificationLevel
from pyhanko.sign.validation import (
    DocumentTimestampStatus,
    EmbeddedPdfSignature,
    PdfSignatureStatus,
    SignatureCoverageLevel,
    async_validate_pdf_signature,
    async_validate_pdf_timestamp,
)
from pyhanko.sign.validation.settings import KeyUsageConstraints

from ..errors import Refused
from ..keys.trust import Trust
from . import document
from .verify import PADES, TOOL, certificate_facts

VALIDATOR = f"pyHanko {pyhanko.version.__version__}"
_ANY_USAGE = KeyUsageConstraints(key_usage=set())  # keys/trust.py looks at the key usage


@dataclass(frozen=True)
class _Validated:
    """One signature, in the order of the document's revisions, and what the validator says of it."""

    signature: EmbeddedPdfSignature
    status: PdfSignatureStatus | DocumentTimestampStatus

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.signature.signer_cert.dump())


@dataclass(frozen=True)
class IssuerSeal:
    """The issuer's seal on a document that is kept as it is.

    `level`: PAdES B-B or B-T; CMS for a signature that is not PAdES (adbe.pkcs7.detached). `sealed_at`: from the
    time-stamp, else as the signer claims; the record says which.
    """

    certificate: x509.Certificate
    level: str
    sealed_at: dt.datetime
    record: dict[str, Any]


def full_validate(sealed: bytes, trust: Trust, at: dt.datetime) -> dict[str, Any]:
    """What the validator says of a document that we sealed; for the verification record.

    The last signature must be trusted at `at` and cover the whole file, those before it must be intact still.
    Codes: `seal_missing`, `seal_invalid`, `signature_broken`, `pdf_locked` (the seal is a change that one forbids).
    """
    found = _validate(sealed, trust, at)
    if not found:
        raise Refused("there is no seal in the document", code="seal_missing")
    for earlier in found[:-1]:
        _refuse_if_locked(earlier)
    status = found[-1].status
    whole = status.coverage == SignatureCoverageLevel.ENTIRE_FILE
    if not (isinstance(status, PdfSignatureStatus) and status.bottom_line and whole):
        raise Refused(f"{VALIDATOR} does not find the seal valid: {status.summary()}", code="seal_invalid")
    return {"tool": VALIDATOR, "signatures": len(found), "summary": status.summary()}


def verify_issuer_seal(
    content: bytes, issuer_certificates: Sequence[x509.Certificate], trust: Trust, at: dt.datetime
) -> IssuerSeal | None:
    """The issuer's seal on a document that arrives signed; None when the seal is to be ours.

    Every signature must be intact, of a certificate still valid at `at`, and followed by no change but further
    signatures and what preserves them, else Refused: `signature_broken`, `signature_expired`,
    `signature_changed`, `signature_unsupported`.

    The document is the issuer's when its last signature is by one of `issuer_certificates`; it must then lead to
    a trusted root (`certificate_untrusted`), and nothing but validation data (DSS, level B-LT) may follow it: who
    looks at it later must find the whole document sealed. A sound signature by anyone else does not say that the
    invoice comes from the issuer, which is what the seal is there to prove. So such a document gets our seal on top:
    an incremental update leaves the other signature valid in its place, and `full_validate` must confirm it.
    """
    found = _validate(content, trust, at)
    with document.opened(content) as pdf:
        listed = document.signatures(content, pdf)
        embedded, has_dss = document.embedded_files(pdf), "/DSS" in pdf.Root
    if len(listed) != len(found):
        raise Refused("a signature in the document is of a kind that cannot be checked", code="signature_unsupported")
    for signature in listed:
        document.gap_of(content, signature)
    for one in found:
        _refuse_if_broken(one, ModificationLevel.FORM_FILLING)
        _refuse_if_expired(one.certificate, at)
    seals = [one for one in found if isinstance(one.status, PdfSignatureStatus)]
    if not seals:
        return None
    _refuse_if_broken(seals[-1], ModificationLevel.LTA_UPDATES)
    if seals[-1].certificate not in issuer_certificates:
        return None
    if found[-1].status.coverage != SignatureCoverageLevel.ENTIRE_FILE and not has_dss:
        raise Refused("something was added to the document after its last signature", code="signature_changed")
    return _issuer_seal(seals[-1], embedded, trust, at)


def _issuer_seal(seal: _Validated, embedded: tuple[tuple[str, str], ...], trust: Trust, at: dt.datetime) -> IssuerSeal:
    signature, status = seal.signature, seal.status
    others = tuple(x509.load_der_x509_certificate(other.dump()) for other in signature.other_embedded_certs)
    trust.validate(seal.certificate, others, at)
    if not (isinstance(status, PdfSignatureStatus) and status.trusted and status.seed_value_ok):
        raise Refused(f"{VALIDATOR} does not find the issuer's seal valid: {status.summary()}", code="seal_invalid")
    stamped = status.timestamp_validity
    if stamped is not None and not (stamped.intact and stamped.valid):
        raise Refused("the time-stamp of the issuer's seal is broken", code="signature_broken")
    record = {
        "tool": f"{TOOL}, {VALIDATOR}",
        "at": at.isoformat(),
        "byte_range": [int(number) for number in signature.byte_range],
        "digest": {"algorithm": signature.md_algorithm, "value": signature.compute_digest().hex()},
        "signer": dict(certificate_facts(seal.certificate)),
        "embedded": [{"name": name, "sha256": sha256} for name, sha256 in embedded],
        "checks": dict.fromkeys(("byte_range", "digest", "signature", "certificate", "chain", "changes"), "passed"),
        "summary": status.summary(),
    }
    if stamped is not None and stamped.trusted:
        return IssuerSeal(seal.certificate, "B-T", stamped.timestamp, record | {"time_from": "time-stamp"})
    level = "B-B" if signature.sig_object.get("/SubFilter") == PADES else "CMS"
    claimed = signature.self_reported_timestamp
    if claimed is None:
        return IssuerSeal(seal.certificate, level, at, record | {"time_from": "our clock"})
    claimed = claimed if claimed.tzinfo else claimed.replace(tzinfo=dt.UTC)
    return IssuerSeal(seal.certificate, level, claimed, record | {"time_from": "the signer's claim"})


def _validate(content: bytes, trust: Trust, at: dt.datetime) -> list[_Validated]:
    try:
        return asyncio.run(_validate_all(content, trust, at))
    except Exception as error:  # noqa: BLE001 - an odd document makes pyHanko raise nearly anything
        raise Refused(f"a signature cannot be checked: {error}", code="signature_unsupported") from None


async def _validate_all(content: bytes, trust: Trust, at: dt.datetime) -> list[_Validated]:
    found = []
    for signature in PdfFileReader(BytesIO(content), strict=False).embedded_signatures:
        context = trust.context(at, [])
        if signature.sig_object_type == "/DocTimeStamp":
            found.append(_Validated(signature, await async_validate_pdf_timestamp(signature, context)))
        else:
            status = await async_validate_pdf_signature(signature, context, key_usage_settings=_ANY_USAGE)
            found.append(_Validated(signature, status))
    return found


def _refuse_if_broken(one: _Validated, allowed: ModificationLevel) -> None:
    name, status = one.signature.field_name, one.status
    if not (status.intact and status.valid):
        raise Refused(f"the signature {name} is broken", code="signature_broken")
    level, coverage = status.modification_level, status.coverage or SignatureCoverageLevel.UNCLEAR
    changed = level is None or level > allowed or status.docmdp_ok is False
    if changed or coverage < SignatureCoverageLevel.ENTIRE_REVISION:
        raise Refused(f"the document was changed after its signature {name}", code="signature_changed")


def _refuse_if_locked(earlier: _Validated) -> None:
    try:
        _refuse_if_broken(earlier, ModificationLevel.FORM_FILLING)
    except Refused as refused:
        if refused.code != "signature_changed":
            raise
        name = earlier.signature.field_name
        raise Refused(f"the signature {name} in the PDF allows no seal on top of it", code="pdf_locked") from None


def _refuse_if_expired(certificate: x509.Certificate, at: dt.datetime) -> None:
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        subject = certificate.subject.rfc4514_string()
        raise Refused(f"the certificate of a signature is not valid now: {subject}", code="signature_expired")
