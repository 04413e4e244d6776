"""Check a seal of ours before the document leaves: qpdf finds it, keys/cms.py checks it, the writer is not asked.

Each check is of the bytes as they will be served. The result is a verification record that goes into the
database as it is; a failure is Refused, with a code that says which check it was. pyHanko's validator looks at
a sample of the same documents (validate.py). Revocation is not looked at: that belongs to level B-LT.
"""

import datetime as dt
import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pikepdf
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from pikepdf import Dictionary, String

from .. import __version__
from ..errors import Refused
from ..keys import cms
from ..keys.trust import Trust
from . import document

TOOL = f"gateway {__version__}"
PADES = "/ETSI.CAdES.detached"
_CHECKS = ("byte_range", "contents", "digest", "signature", "certificate", "chain")
_CHECKS_AGAINST_RECEIVED = ("original_first", "objects_same", "embedded_same", "metadata_same")
_OBJECT = re.compile(rb"[\r\n]([0-9]{1,10}) ([0-9]{1,5}) obj\b")


@dataclass(frozen=True)
class _Held:
    """What a seal must leave alone, beside the bytes themselves."""

    embedded: tuple[tuple[str, str], ...]
    metadata_sha256: str


def verify(
    sealed: bytes,
    received: bytes | None,
    expected: tuple[x509.Certificate, ...],
    trust: Trust,
    at: dt.datetime,
) -> dict[str, Any]:
    """The verification record of a document sealed by `expected[0]`, every check having passed at `at` (aware).

    `expected`: the certificate that seals, then the rest of its chain as the seal must hold it. `received`: the
    bytes before they were sealed; None leaves out the checks against them, and the record says so.
    Codes: `seal_missing`, `seal_coverage`, `seal_contents`, `seal_signer`, `seal_original`, `seal_embedded`,
    `pdf_unreadable`, `encrypted`, and those of keys/cms.py and keys/trust.py.
    """
    with document.opened(sealed, inherit_page_attributes=False) as pdf:  # it would add to the pages
        seal = _seal_of_whole_file(sealed, document.signatures(sealed, pdf))
        gap = document.gap_of(sealed, seal)
        digest = hashlib.sha256(sealed[: gap.start])
        digest.update(sealed[gap.stop :])
        signer = cms.verify(_der(sealed[gap], seal), digest.digest())
        if signer.certificate != expected[0] or set(signer.others) != set(expected[1:]):
            raise Refused("the seal is by another certificate or chain than the configured one", code="seal_signer")
        trust.validate(signer.certificate, signer.others, at)
        held = _held(pdf)
        if received is not None:
            _check_against_received(sealed, gap, pdf, held, received)
    return {
        "tool": TOOL,
        "at": at.isoformat(),
        "byte_range": list(seal.byte_range),
        "digest": {"algorithm": "sha256", "value": digest.hexdigest()},
        "signer": dict(certificate_facts(signer.certificate)),
        "embedded": [{"name": name, "sha256": sha256} for name, sha256 in held.embedded],
        "checks": dict.fromkeys(_CHECKS, "passed")
        | dict.fromkeys(_CHECKS_AGAINST_RECEIVED, "not run" if received is None else "passed"),
    }


@lru_cache(maxsize=64)
def certificate_facts(certificate: x509.Certificate) -> dict[str, str]:
    """Who a certificate names, as records and reports show it; names in RFC 4514, the serial in hexadecimal."""
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "certificate_sha256": certificate.fingerprint(hashes.SHA256()).hex(),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
    }


def _seal_of_whole_file(sealed: bytes, found: list[document.Signature]) -> document.Signature:
    if not found:
        raise Refused("there is no seal in the document", code="seal_missing")
    whole = [one for one in found if one.byte_range[-1:] and sum(one.byte_range[-2:]) == len(sealed)]
    if len(whole) != 1 or not whole[0].field_name:
        raise Refused("not exactly one seal covers the whole document", code="seal_coverage")
    if whole[0].sub_filter != PADES:
        raise Refused("the seal is not of the kind used here", code="seal_contents")
    return whole[0]


def _der(gap: bytes, seal: document.Signature) -> bytes:
    # The gap is what no digest covers: one way only to write it, so that no byte of it can change unseen.
    if gap != b"<" + seal.contents.hex().upper().encode() + b">":
        raise Refused("the seal is not written as it is written here", code="seal_contents")
    der, padding = cms.without_padding(seal.contents)
    if padding.strip(b"\0"):
        raise Refused("something stands after the seal's signature", code="seal_contents")
    return der


def _check_against_received(sealed: bytes, gap: slice, after: pikepdf.Pdf, held: _Held, received: bytes) -> None:
    if not sealed.startswith(received) or gap.start < len(received):
        raise Refused("the sealed document does not begin with the received one", code="seal_original")
    with document.opened(received, inherit_page_attributes=False) as before:
        if held != _held(before):
            raise Refused("an embedded file or the metadata changed with the seal", code="seal_embedded")
        if not _is_entered_only(before, after, sealed[len(received) - 1 : gap.start] + sealed[gap.stop :]):
            raise Refused("more than the seal itself changed in the document", code="seal_original")


def _is_entered_only(before: pikepdf.Pdf, after: pikepdf.Pdf, update: bytes) -> bool:
    """Written anew is only what a seal is entered in: catalog, form, first page; and these say what they said."""
    form = before.Root.get("/AcroForm", Dictionary())
    page = before.pages[0].obj
    holders = [before.Root, before.Root.get("/Extensions"), form, page, page.get("/Annots")]
    holders.append(form.get("/Fields") if isinstance(form, Dictionary) else None)
    entered_in = {holder.objgen for holder in holders if isinstance(holder, pikepdf.Object)}
    written = {(int(number), int(generation)) for number, generation in _OBJECT.findall(update)}
    return (
        all(before.get_object(objgen) is None for objgen in written - entered_in)
        and _is_same_but(before.Root, after.Root, {"/AcroForm", "/Extensions"})
        and _is_same_but(page, after.pages[0].obj, {"/Annots"})
    )


def _is_same_but(before: pikepdf.Object, after: pikepdf.Object, changed: set[str]) -> bool:
    keys = set(before.keys()) - changed
    return keys == set(after.keys()) - changed and all(_is_same(before[key], after[key]) for key in keys)


def _is_same(before: object, after: object) -> bool:
    """A text may come in another encoding, a number in another form."""
    if not isinstance(before, pikepdf.Object) or not isinstance(after, pikepdf.Object):
        return before == after
    if before.is_indirect or after.is_indirect or before.unparse() == after.unparse():
        return before.objgen == after.objgen
    if isinstance(before, Dictionary) and isinstance(after, Dictionary):
        return _is_same_but(before, after, set())
    if isinstance(before, pikepdf.Array) and isinstance(after, pikepdf.Array):
        return len(before) == len(after) and all(map(_is_same, before, after))
    return isinstance(before, String) and isinstance(after, String) and str(before) == str(after)


def _held(pdf: pikepdf.Pdf) -> _Held:
    return _Held(document.embedded_files(pdf), document.metadata_sha256(pdf))
