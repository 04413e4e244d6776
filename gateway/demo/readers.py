"""What a client does with what arrives: read signed mail, check a seal.

Nothing here uses the gateway's own code for what it checks: mail is checked by `openssl` where it is on the PATH,
otherwise by pyHanko; seals by pyHanko. All functions block, and run an event loop of their own where they need one:
from a coroutine, call them in a thread. Refused for a mail or file that is not what it should be.
"""

import asyncio
import datetime as dt
import email.policy
import io
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from asn1crypto import cms
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import async_validate_detached_cms, async_validate_pdf_signature
from pyhanko.sign.validation.settings import KeyUsageConstraints
from pyhanko.sign.validation.status import SignatureCoverageLevel
from pyhanko_certvalidator import ValidationContext

from ..errors import Refused

TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class MailSignature:
    """Whether a mail's signature holds and is the sender's, who says so, and why not."""

    ok: bool
    signer: str  # the certificate's e-mail address
    checked_by: str
    reason: str = ""


@dataclass(frozen=True)
class Mail:
    """A mail as its reader sees it: header fields, attachments by name, and the verdict on its signature."""

    headers: EmailMessage
    attachments: dict[str, bytes]
    signature: MailSignature

    @property
    def pdf(self) -> bytes:
        """The one PDF attached. Refused when there is none or more than one."""
        found = [content for content in self.attachments.values() if content.startswith(b"%PDF-")]
        if len(found) != 1:
            raise Refused(f"{len(found)} PDF files in this mail", code="mail_attachments")
        return found[0]


def read_mail(path: Path, roots: Path) -> Mail:
    """Parse a mail and check its S/MIME signature (RFC 8551) against the roots in a PEM file.

    `signature.ok` is false, with the reason, for a mail that is not signed, was changed, is signed by somebody the
    roots do not vouch for, or by a certificate of another address than From's.
    """
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return Mail(message, dict(_attachments(message)), _signature(path, message, roots))


def _attachments(message: EmailMessage) -> Iterator[tuple[str, bytes]]:
    for part in message.walk():
        content = part.get_payload(decode=True)
        if (
            isinstance(content, bytes)
            and part.get_content_disposition() == "attachment"
            and part.get_content_type() != "application/pkcs7-signature"
        ):
            yield part.get_filename() or "", content


def _signature(path: Path, message: EmailMessage, roots: Path) -> MailSignature:
    program = shutil.which("openssl")
    checked_by = "openssl" if program else "pyHanko"
    if message.get_content_type() != "multipart/signed":
        return MailSignature(False, "", checked_by, "not signed")
    try:
        signer = _signer_by_openssl(program, path, roots) if program else _signer_by_pyhanko(path, message, roots)
    except Refused as refused:
        return MailSignature(False, "", checked_by, refused.message)
    address = _address(signer)
    sender = message["From"].addresses[0].addr_spec
    if address.lower() != sender.lower():
        return MailSignature(False, address, checked_by, f"signed by {address or 'nobody'}, sent from {sender}")
    return MailSignature(True, address, checked_by)


def _address(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    return next(iter(names.get_values_for_type(x509.RFC822Name)), "")


def _signer_by_openssl(program: str, path: Path, roots: Path) -> x509.Certificate:
    with tempfile.TemporaryDirectory() as scratch:
        signer = Path(scratch) / "signer.pem"
        done = subprocess.run(
            [program, "cms", "-verify", "-in", path, "-inform", "SMIME", "-CAfile", roots, "-no-CApath", "-no-CAstore",
             "-purpose", "smimesign", "-signer", signer, "-out", "/dev/null"],
            capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Refused(done.stderr.strip(), code="mail_signature")
        return x509.load_pem_x509_certificate(signer.read_bytes())


def _signer_by_pyhanko(path: Path, message: EmailMessage, roots: Path) -> x509.Certificate:
    entity, signature = _signed_parts(path.read_bytes(), message)
    usage = KeyUsageConstraints(key_usage={"digital_signature"}, extd_key_usage={"email_protection"})
    try:
        signed = cms.ContentInfo.load(signature)["content"]
        status = asyncio.run(async_validate_detached_cms(entity, signed, _context(roots), key_usage_settings=usage))
    except ValueError as error:
        raise Refused(f"the signature cannot be read: {error}", code="mail_signature") from None
    if not status.bottom_line:
        raise Refused(f"the signature does not hold: {status.summary()}", code="mail_signature")
    return x509.load_der_x509_certificate(status.signing_cert.dump())


def _signed_parts(raw: bytes, message: EmailMessage) -> tuple[bytes, bytes]:
    """The signed bytes, exactly as between the boundaries (RFC 1847 2.1), and the signature's DER."""
    delimiter = b"\r\n--" + (message.get_boundary() or "").encode("ascii")
    parts = raw.split(delimiter)
    if len(parts) != 4:
        raise Refused("not two parts between boundaries", code="mail_structure")
    attached = email.message_from_bytes(parts[2].removeprefix(b"\r\n"))
    signature = attached.get_payload(decode=True)
    assert isinstance(signature, bytes)
    return parts[1].removeprefix(b"\r\n"), signature


@dataclass(frozen=True)
class SealReport:
    """What a validator says about a document's seal, the last one where there are several."""

    intact: bool  # the bytes under it are unchanged
    valid: bool  # the signature fits the certificate
    trusted: bool  # the certificate leads to a root
    whole_file: bool  # nothing was added after it
    signer: str
    sealed_at: dt.datetime | None  # as the signer says

    @property
    def ok(self) -> bool:
        """All of it."""
        return self.intact and self.valid and self.trusted and self.whole_file


def check_seal(pdf: bytes, roots: Path) -> SealReport:
    """Check a document's seal (PAdES) by pyHanko's validator against the roots in a PEM file.

    Refused when the document is no PDF or carries no seal.
    """
    try:
        seals = PdfFileReader(io.BytesIO(pdf)).embedded_signatures
    except PdfError as error:
        raise Refused(f"not a PDF: {error}", code="not_pdf") from None
    if not seals:
        raise Refused("this document carries no seal", code="no_seal")
    status = asyncio.run(async_validate_pdf_signature(seals[-1], _context(roots)))
    return SealReport(
        intact=status.intact,
        valid=status.valid,
        trusted=status.trusted,
        whole_file=status.coverage == SignatureCoverageLevel.ENTIRE_FILE,
        signer=status.signing_cert.subject.human_friendly,
        sealed_at=status.signer_reported_dt,
    )


def _context(roots: Path) -> Any:
    """These roots and no others; nothing is fetched, so revocation is only seen where the signature carries it."""
    anchors = [
        asn1_x509.Certificate.load(root.public_bytes(Encoding.DER))
        for root in x509.load_pem_x509_certificates(roots.read_bytes())
    ]
    return ValidationContext(trust_roots=anchors, allow_fetching=False, revocation_mode="soft-fail")
