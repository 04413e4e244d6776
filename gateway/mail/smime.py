"""Sign a MIME entity (S/MIME 4.0, RFC 8551: multipart/signed, RFC 1847) and check the finished message.

The signature covers the very bytes between the boundaries; any change on the way breaks it. So the check
looks at raw bytes, with a parser of its own that shares nothing with the writer: what a lenient mail program
would forgive (LF alone, a missing CRLF before a boundary) is Refused here, before the message is stored.
"""

import base64
import binascii
import datetime as dt
import hashlib
import re
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..errors import ConfigError, Refused
from ..keys import cms
from ..keys.load import SigningKey
from . import mime

MAX_LINE = 998  # RFC 5322 2.1.1, without CRLF
_PRINTABLE = bytes(range(32, 127))
_SIGNED = re.compile(rb'\r\nContent-Type: multipart/signed;[^\r]*(?:\r\n [^\r]*)*?boundary="([^"\r]{1,70})"\r\n')
_MIXED = re.compile(rb'Content-Type: multipart/mixed;\r\n boundary="([^"\r]{1,70})"\r\n\r\n')
_MAIL_PURPOSES = {ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


def sign(entity: bytes, key: SigningKey, at: dt.datetime) -> bytes:
    """`entity` (CRLF, ends with CRLF) as a multipart/signed entity: its Content-Type, an empty line, its body.

    The signature names the time of signing, `at` (aware), and carries the certificate and its chain.
    """
    return multipart_signed(entity, cms.sign(key, hashlib.sha256(entity).digest(), at))


def multipart_signed(entity: bytes, signature: bytes) -> bytes:
    """RFC 8551 3.5.3.3: the entity byte for byte, then the detached signature (DER)."""
    # The entity's first lines hold a delimiter made of the Message-ID; `=_` occurs in neither transfer encoding.
    boundary = b"=_" + hashlib.sha256(entity[:200]).hexdigest()[:32].encode("ascii")
    parts = (
        b'Content-Type: multipart/signed; protocol="application/pkcs7-signature";\r\n'
        b' micalg=sha-256; boundary="%b"\r\n\r\n--%b\r\n' % (boundary, boundary),
        entity,
        b"\r\n--%b\r\n" % boundary,
        b'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\n'
        b"Content-Transfer-Encoding: base64\r\n"
        b'Content-Disposition: attachment; filename="smime.p7s"\r\n\r\n',
        mime.base64_lines(signature).encode("ascii"),
        b"\r\n--%b--\r\n" % boundary,
    )
    return b"".join(parts)


def verify(message: bytes, certificate: x509.Certificate, attachments: Sequence[str]) -> None:
    """Refused unless `message` can travel unchanged, `certificate` signed it and it holds the attachments.

    `attachments`: SHA-256 of each file's content, hexadecimal, in order. Codes: `mail_bytes` (8 bits, a bare CR
    or LF, a long line, blanks before a line end), `mail_structure`, `mail_signature`, `mail_attachments`.
    """
    _check_bytes(message)
    entity, signature = split(message)
    _check_signature(signature, hashlib.sha256(entity).digest(), certificate)
    if [hashlib.sha256(content).hexdigest() for content in _attachments(entity)] != list(attachments):
        raise Refused("the attachments are not the documents", code="mail_attachments")


def split(message: bytes) -> tuple[bytes, bytes]:
    """The signed bytes and the signature (DER) of a multipart/signed message, cut at its boundaries; else Refused."""
    header, _, body = message.partition(b"\r\n\r\n")
    found = _SIGNED.search(b"\r\n" + header + b"\r\n")
    if not found:
        raise _broken("no multipart/signed")
    delimiter = b"--" + found[1]
    parts = (b"\r\n" + body).split(b"\r\n" + delimiter)
    if len(parts) != 4 or parts[0] or parts[3] != b"--\r\n" or not all(p.startswith(b"\r\n") for p in parts[1:3]):
        raise _broken("not exactly two parts")
    signature_header, _, signature = parts[2].partition(b"\r\n\r\n")
    if b"\r\nContent-Type: application/pkcs7-signature;" not in signature_header:
        raise _broken("the second part is no signature")
    return parts[1][2:], base64_content(signature)


def base64_content(body: bytes) -> bytes:
    """RFC 2045 6.8 read strictly: nothing but the alphabet, line ends and padding at the end."""
    try:
        return base64.b64decode(body.translate(None, b"\r\n"), validate=True)
    except binascii.Error:
        raise _broken("not base64") from None


def check_certificate(key: SigningKey, from_address: str) -> None:
    """ConfigError unless the certificate names `from_address` and may sign mail (RFC 8550 3, 4.4.2, 4.4.4)."""
    if from_address.lower() not in {address.lower() for address in _addresses(key.certificate)}:
        raise ConfigError(
            f"[mail] certificate: {key.subject} does not hold the From address {from_address}; readers would call "
            "every signature invalid",
            where="[mail] certificate",
        )
    usage = _extension(key.certificate, x509.KeyUsage)
    if usage is not None and not (usage.digital_signature or usage.content_commitment):
        raise ConfigError("[mail] certificate: its key usage does not allow signatures", where="[mail] certificate")
    purposes = _extension(key.certificate, x509.ExtendedKeyUsage)
    if purposes is not None and _MAIL_PURPOSES.isdisjoint(purposes):
        raise ConfigError("[mail] certificate: not meant for e-mail (emailProtection)", where="[mail] certificate")


def _addresses(certificate: x509.Certificate) -> list[str]:
    names = _extension(certificate, x509.SubjectAlternativeName)
    in_subject = certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
    return [
        *(names.get_values_for_type(x509.RFC822Name) if names is not None else ()),
        *(str(attribute.value) for attribute in in_subject),
    ]


def _extension(certificate: x509.Certificate, kind: Any) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _check_bytes(message: bytes) -> None:
    if message.translate(None, _PRINTABLE) != b"\r\n" * message.count(b"\r\n"):
        raise Refused("the message is not 7-bit text with CRLF line ends", code="mail_bytes")
    start = 0
    while len(message) - start > MAX_LINE:  # from line end to line end, in the longest steps allowed
        end = message.rfind(b"\r\n", start, start + MAX_LINE + 2)
        if end < 0:
            raise Refused(f"the message has a line of more than {MAX_LINE} characters", code="mail_bytes")
        start = end + 2
    if b" \r\n" in message:
        raise Refused("the message has blanks before a line end", code="mail_bytes")


def _check_signature(der: bytes, digest: bytes, certificate: x509.Certificate) -> None:
    try:
        signer = cms.verify(der, digest, timed=True)
    except Refused as refused:
        raise Refused(refused.message, code="mail_signature") from None
    if signer.certificate != certificate:
        raise Refused("the message is signed with another certificate", code="mail_signature")


def _attachments(entity: bytes) -> list[bytes]:
    found = _MIXED.match(entity)
    if not found:
        raise _broken("the signed entity is no multipart/mixed")
    parts = entity[found.end() - 2 :].split(b"\r\n--" + found[1])
    if parts[0] or parts[-1] != b"--\r\n":
        raise _broken("the signed entity does not end at its boundary")
    files = [part.partition(b"\r\n\r\n") for part in parts[1:-1]]
    return [base64_content(body) for header, _, body in files if b"\r\nContent-Disposition: attachment" in header]


def _broken(what: str) -> Refused:
    return Refused(f"the message is not of the form written here: {what}", code="mail_structure")
