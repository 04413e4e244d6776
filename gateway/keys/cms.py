"""CMS SignedData (RFC 5652) for seals (PAdES B-B, ETSI EN 319 142-1) and S/MIME: detached, one signer, SHA-256.

Signed attributes: content-type, message-digest, signing-certificate-v2 (RFC 5035); signing-time for S/MIME only
(RFC 8551 2.5.1), since PAdES puts it into the PDF. What does not change from one signature to the next is encoded
once for each key.

`verify` takes what `sign` writes and no more, read by a strict DER reader that shares nothing with the writer:
since every byte outside the certificates is either signed or has one possible value, no byte can be changed
unseen. Everything else, and every malformed input, is Refused.
"""

import datetime as dt
import hashlib
from dataclasses import dataclass
from functools import lru_cache

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from ..errors import Refused
from .load import SigningKey

_INTEGER, _OCTETS, _SEQUENCE, _SET, _TAG_0 = 0x02, 0x04, 0x30, 0x31, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_MAX_CERTIFICATES = 10

# What `verify` compares with, as DER in hexadecimal.
_VERSION_1 = bytes.fromhex("020101")
_DATA = bytes.fromhex("06092a864886f70d010701")
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_SHA256 = bytes.fromhex("300b0609608648016503040201")
_RSA = bytes.fromhex("300d06092a864886f70d0101010500")  # rsaEncryption, RFC 3370 3.2
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_CONTENT_TYPE = bytes.fromhex("06092a864886f70d010903")
_MESSAGE_DIGEST = bytes.fromhex("06092a864886f70d010904")
_SIGNING_TIME = bytes.fromhex("06092a864886f70d010905")
_SIGNING_CERTIFICATE_V2 = bytes.fromhex("060b2a864886f70d010910022f")


@dataclass(frozen=True)
class Signer:
    """Who signed: a certificate, and the others that came with it, for building its chain."""

    certificate: x509.Certificate
    others: tuple[x509.Certificate, ...]
    signed_at: dt.datetime | None = None  # what the signer says, where it is asked for


@dataclass(frozen=True)
class _Template:
    """The DER of everything that stays the same for one key."""

    attributes: tuple[bytes, ...]  # content-type and signing-certificate-v2
    before_attributes: bytes  # of SignerInfo: version, sid, digest algorithm
    after_attributes: bytes  # of SignerInfo: signature algorithm
    before_signers: bytes  # of SignedData: version, digest algorithms, content type, certificates


def sign(key: SigningKey, digest: bytes, signing_time: dt.datetime | None = None) -> bytes:
    """DER of a ContentInfo, by `key`, over content whose SHA-256 is `digest` (32 bytes); `signing_time`: aware."""
    template = _template(key)
    own = [*template.attributes, _attribute("message_digest", core.OctetString(digest))]
    if signing_time is not None:
        kind = "utc_time" if signing_time.year < 2050 else "generalized_time"  # RFC 5652 11.3
        own.append(_attribute("signing_time", cms.Time(kind, signing_time.replace(microsecond=0))))
    attributes = b"".join(sorted(own))  # DER sorts a SET OF
    signature = key.sign(_tlv(_SET, attributes))
    return _content_info(template, attributes, signature)


def max_size(key: SigningKey) -> int:
    """Bytes that `sign` returns at most; with RSA, exactly."""
    template = _template(key)
    attributes = b"".join((*template.attributes, _attribute("message_digest", core.OctetString(bytes(32)))))
    return len(_content_info(template, attributes, bytes(key.max_signature_size)))


def _content_info(template: _Template, attributes: bytes, signature: bytes) -> bytes:
    signer = _tlv(
        _SEQUENCE,
        template.before_attributes + _tlv(_TAG_0, attributes) + template.after_attributes + _tlv(_OCTETS, signature),
    )
    signed_data = _tlv(_SEQUENCE, template.before_signers + _tlv(_SET, signer))
    return _tlv(_SEQUENCE, cms.ContentType("signed_data").dump() + _tlv(_TAG_0, signed_data))


@lru_cache(maxsize=16)
def _template(key: SigningKey) -> _Template:
    certificate = asn1_x509.Certificate.load(key.certificate_der)
    sha256 = _tlv(_SEQUENCE, algos.DigestAlgorithmId("sha256").dump())  # RFC 5754 2: without parameters
    reference = tsp.ESSCertIDv2(
        {
            "cert_hash": hashlib.sha256(key.certificate_der).digest(),
            "issuer_serial": {
                "issuer": [asn1_x509.GeneralName("directory_name", certificate.issuer)],
                "serial_number": certificate.serial_number,
            },
        }
    )
    sid = cms.IssuerAndSerialNumber({"issuer": certificate.issuer, "serial_number": certificate.serial_number})
    algorithm = algos.SignedDigestAlgorithm(
        {"algorithm": "rsassa_pkcs1v15", "parameters": core.Null()}
        if key.algorithm == "rsa"
        else {"algorithm": "sha256_ecdsa"}
    )
    chain = [key.certificate_der, *(issuer.public_bytes(serialization.Encoding.DER) for issuer in key.chain)]
    version = cms.CMSVersion("v1").dump()
    return _Template(
        attributes=(
            _attribute("content_type", cms.ContentType("data")),
            _attribute("signing_certificate_v2", tsp.SigningCertificateV2({"certs": [reference]})),
        ),
        before_attributes=version + sid.dump() + sha256,
        after_attributes=algorithm.dump(),
        before_signers=version
        + _tlv(_SET, sha256)
        + _tlv(_SEQUENCE, cms.ContentType("data").dump())
        + _tlv(_TAG_0, b"".join(sorted(chain))),
    )


def _attribute(kind: str, value: core.Asn1Value) -> bytes:
    return _tlv(_SEQUENCE, cms.CMSAttributeType(kind).dump() + _tlv(_SET, value.dump()))


def _tlv(tag: int, content: bytes) -> bytes:
    """Tag, length, value; DER, X.690 section 8.1.3."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def verify(der: bytes, digest: bytes, *, timed: bool = False) -> Signer:
    """Who signed content whose SHA-256 is `digest`, the signature being good; `timed`: it holds a signing-time.

    Says nothing about trust in the signer's certificate (trust.py). Refused with one of the codes
    `cms_unreadable`, `cms_digest` (other content), `cms_certificate` (the certificate is not the one that the
    signer named), `cms_signature`.
    """
    try:
        return _verify(der, digest, timed)
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - hostile DER makes the certificate parser raise nearly anything
        raise Refused(f"the signature cannot be read ({type(error).__name__})", code="cms_unreadable") from None


def without_padding(contents: bytes) -> tuple[bytes, bytes]:
    """The DER at the start of a PDF's /Contents, and what stands after it."""
    _expect(len(contents) > 2, "DER")
    end = _end_of_element(contents, 0)
    return contents[:end], contents[end:]


@dataclass(frozen=True)
class _SignerInfo:
    sid: bytes  # content of IssuerAndSerialNumber
    attributes: bytes  # content of the SET
    algorithm: bytes
    signature: bytes


def _verify(der: bytes, digest: bytes, timed: bool) -> Signer:
    certificates, signer_info = _signed_data(der)
    signers = next((one for one in certificates if _issuer_and_serial(one) == signer_info.sid), None)
    if signers is None:
        raise Refused("the signer's certificate is not in the signature", code="cms_certificate")
    attributes = _check_attributes(signer_info.attributes, digest, signers, timed)
    certificate = x509.load_der_x509_certificate(signers)
    _check_signature(certificate, signer_info)
    others = tuple(x509.load_der_x509_certificate(other) for other in certificates if other != signers)
    return Signer(certificate, others, _time(attributes[_SIGNING_TIME]) if timed else None)


def _signed_data(der: bytes) -> tuple[list[bytes], _SignerInfo]:
    """Certificates in DER and the only SignerInfo of a detached SignedData, RFC 5652 section 5."""
    content_type, explicit = _parts(_only(der, _SEQUENCE), 2)
    version, digests, content, certificates, signers = _parts(_only(_content(explicit, _TAG_0), _SEQUENCE), 5)
    _expect(content_type == _SIGNED_DATA and version == _VERSION_1, "SignedData, version 1")
    _expect(_content(digests, _SET) == _SHA256, "SHA-256")
    _expect(_content(content, _SEQUENCE) == _DATA, "detached")
    chain = _split(_content(certificates, _TAG_0))
    _expect(0 < len(chain) <= _MAX_CERTIFICATES, f"one to {_MAX_CERTIFICATES} certificates")
    return chain, _signer_info(_only(_content(signers, _SET), _SEQUENCE))


def _signer_info(content: bytes) -> _SignerInfo:
    version, sid, digest, attributes, algorithm, signature = _parts(content, 6)
    _expect(version == _VERSION_1 and digest == _SHA256, "SignerInfo, version 1, SHA-256")
    return _SignerInfo(_content(sid, _SEQUENCE), _content(attributes, _TAG_0), algorithm, _content(signature, _OCTETS))


def _issuer_and_serial(certificate: bytes) -> bytes:
    """As `sid` holds them, of a certificate in DER (RFC 5280 4.1): issuer, serial number."""
    fields = _split(_content(_split(_only(certificate, _SEQUENCE))[0], _SEQUENCE))
    _expect(len(fields) >= 4 and fields[0][0] == _TAG_0, "certificates of version 2 or 3")
    return fields[3] + fields[1]


def _check_attributes(content: bytes, digest: bytes, certificate: bytes, timed: bool) -> dict[bytes, bytes]:
    attributes = dict(_parts(_content(attribute, _SEQUENCE), 2) for attribute in _split(content))
    used = {_CONTENT_TYPE, _MESSAGE_DIGEST, _SIGNING_CERTIFICATE_V2} | ({_SIGNING_TIME} if timed else set())
    _expect(len(_split(content)) == len(used) and set(attributes) == used, "its signed attributes")
    _expect(_content(attributes[_CONTENT_TYPE], _SET) == _DATA, "content-type data")
    if _only(_content(attributes[_MESSAGE_DIGEST], _SET), _OCTETS) != digest:
        raise Refused("the content is not what was signed", code="cms_digest")
    references = _only(_only(_content(attributes[_SIGNING_CERTIFICATE_V2], _SET), _SEQUENCE), _SEQUENCE)
    named = _split(_content(_split(references)[0], _SEQUENCE))[0]  # RFC 5035: no algorithm is SHA-256
    if _content(named, _OCTETS) != hashlib.sha256(certificate).digest():
        raise Refused("the certificate is not the one that signed", code="cms_certificate")
    return attributes


def _time(values: bytes) -> dt.datetime:
    """Of a signing-time attribute; RFC 5652 11.3: UTCTime up to 2049, GeneralizedTime after, both in Z."""
    element = _content(values, _SET)
    _expect(len(_split(element)) == 1 and element[0] in (_UTC_TIME, _GENERALIZED_TIME), "a time")
    text = _content(element, element[0]).decode("ascii")
    if element[0] == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return dt.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=dt.UTC)


def _check_signature(certificate: x509.Certificate, signer_info: _SignerInfo) -> None:
    public_key, signed = certificate.public_key(), _tlv(_SET, signer_info.attributes)
    try:
        if isinstance(public_key, rsa.RSAPublicKey) and signer_info.algorithm == _RSA:
            public_key.verify(signer_info.signature, signed, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(public_key, ec.EllipticCurvePublicKey) and signer_info.algorithm == _ECDSA_SHA256:
            public_key.verify(signer_info.signature, signed, ec.ECDSA(hashes.SHA256()))
        else:
            raise Refused("the signature's algorithm is not used here", code="cms_unreadable")
    except InvalidSignature:
        raise Refused("the signature does not fit its certificate", code="cms_signature") from None


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise Refused(f"the signature is not of the form used here: {what}", code="cms_unreadable")


def _split(content: bytes) -> list[bytes]:
    """The elements, tag and length included, of which some DER consists; X.690 section 10.1: shortest lengths."""
    elements, start = [], 0
    while start < len(content):
        _expect(len(content) >= start + 2 and content[start] & 0x1F != 0x1F, "DER")
        end = _end_of_element(content, start)
        _expect(end <= len(content), "DER, whole")
        elements.append(content[start:end])
        start = end
    return elements


def _end_of_element(content: bytes, start: int) -> int:
    first = content[start + 1]
    if first < 0x80:
        return start + 2 + first
    octets = content[start + 2 : start + 2 + (first & 0x7F)]
    size = int.from_bytes(octets, "big")
    _expect(0 < len(octets) <= 4 and octets[0] != 0 and size >= 0x80, "DER, definite and shortest lengths")
    return start + 2 + len(octets) + size


def _parts(content: bytes, count: int) -> list[bytes]:
    elements = _split(content)
    _expect(len(elements) == count, "the parts of a SEQUENCE")
    return elements


def _only(content: bytes, tag: int) -> bytes:
    """The content of the single element that some DER consists of."""
    return _content(_parts(content, 1)[0], tag)


def _content(element: bytes, tag: int) -> bytes:
    _expect(element[0] == tag, "the type of a part")
    first = element[1]
    return element[2 if first < 0x80 else 2 + (first & 0x7F) :]
