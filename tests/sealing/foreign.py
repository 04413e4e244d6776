"""Signatures as others make them: pyHanko's own signer, with what it writes by default."""

from io import BytesIO
from typing import Any

from asn1crypto import keys as asn1_keys
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import signers
from pyhanko.sign.fields import SigSeedSubFilter
from pyhanko.sign.timestamps import DummyTimeStamper
from pyhanko_certvalidator.registry import SimpleCertificateStore

from gateway.keys.load import SigningKey
from tests.keys.authority import Authority, rsa_key


def sign(content: bytes, key: SigningKey, timestamper: DummyTimeStamper | None = None, **metadata: Any) -> bytes:
    """`content` signed by `key`; adbe.pkcs7.detached unless `metadata` say otherwise."""
    bag = pkcs12.serialize_key_and_certificates(b"x", key.private_key, key.certificate, key.chain, NoEncryption())
    signer = signers.SimpleSigner.load_pkcs12_data(bag, [], None)
    assert signer is not None
    metadata.setdefault("subfilter", SigSeedSubFilter.ADOBE_PKCS7_DETACHED)
    described = signers.PdfSignatureMetadata(field_name="Signature1", md_algorithm="sha256", **metadata)
    signed = signers.PdfSigner(described, signer=signer, timestamper=timestamper).sign_pdf(
        IncrementalPdfFileWriter(BytesIO(content))
    )
    assert isinstance(signed, BytesIO)
    return signed.getvalue()


def timestamper(authority: Authority) -> DummyTimeStamper:
    """A time-stamp authority in this process, certified by `authority`."""
    key = rsa_key()  # all that pyHanko can
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
    certificate = authority.issue(key, "Time", extension=usage)
    chain = SimpleCertificateStore()
    chain.register(_asn1(authority.intermediate))
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return DummyTimeStamper(_asn1(certificate), asn1_keys.PrivateKeyInfo.load(private), chain)


def _asn1(certificate: x509.Certificate) -> asn1_x509.Certificate:
    return asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
