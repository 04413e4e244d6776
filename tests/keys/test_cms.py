import datetime as dt
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from asn1crypto import cms as asn1_cms
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given
from hypothesis import strategies as st

from gateway import errors
from gateway.keys import cms
from gateway.keys.load import SigningKey
from tests.keys.authority import Authority, p256_key

DIGEST = hashlib.sha256(b"the document").digest()


def test_what_is_signed_verifies_and_names_its_signer(authority: Authority, seal: SigningKey) -> None:
    """The signer's certificate, and the chain that leads to its root."""
    signer = cms.verify(cms.sign(seal, DIGEST), DIGEST)
    assert signer.certificate == seal.certificate
    assert signer.others == (authority.intermediate,)


def test_the_room_announced_is_enough_and_tight(seal: SigningKey) -> None:
    """It is reserved in the PDF before the signature is made."""
    sizes = [len(cms.sign(seal, DIGEST)) for _ in range(40)]
    assert max(sizes) <= cms.max_size(seal) <= max(sizes) + 5


def test_pades_attributes_are_signed_and_the_time_is_not(seal: SigningKey) -> None:
    """EN 319 142-1 6.3: signing-time shall not be used, signing-certificate-v2 shall."""
    signer_info = _parsed(cms.sign(seal, DIGEST))["signer_infos"][0]
    names = [attribute["type"].native for attribute in signer_info["signed_attrs"]]
    assert sorted(names) == ["content_type", "message_digest", "signing_certificate_v2"]
    assert not signer_info["unsigned_attrs"]


@pytest.mark.parametrize("year", [2026, 2049, 2050])
def test_a_signing_time_is_for_messages_and_refused_in_a_seal(seal: SigningKey, year: int) -> None:
    """Each has one form; what is taken for the other was not written here. RFC 5652 11.3: four digits from 2050 on."""
    at = dt.datetime(year, 3, 2, 8, 0, 1, 999, tzinfo=dt.UTC)
    timed = cms.sign(seal, DIGEST, at)
    attributes = _parsed(timed)["signer_infos"][0]["signed_attrs"]
    (stated,) = [attribute["values"][0] for attribute in attributes if attribute["type"].native == "signing_time"]
    assert stated.native == at.replace(microsecond=0)
    assert stated.name == ("utc_time" if year < 2050 else "generalized_time")
    assert cms.verify(timed, DIGEST, timed=True).certificate == seal.certificate
    for der, is_timed in ((timed, False), (cms.sign(seal, DIGEST), True)):
        with pytest.raises(errors.Refused) as caught:
            cms.verify(der, DIGEST, timed=is_timed)
        assert caught.value.code == "cms_unreadable"


def test_the_encoding_is_der(seal: SigningKey) -> None:
    """Another library writes the same bytes again: lengths are shortest, sets are sorted."""
    der = cms.sign(seal, DIGEST)
    assert asn1_cms.ContentInfo.load(der, strict=True).dump(force=True) == der
    attributes = [attribute.dump() for attribute in _parsed(der)["signer_infos"][0]["signed_attrs"]]
    assert attributes == sorted(attributes)


def test_other_content_is_refused(seal: SigningKey) -> None:
    """The document was changed after it was sealed."""
    with pytest.raises(errors.Refused) as caught:
        cms.verify(cms.sign(seal, DIGEST), hashlib.sha256(b"another").digest())
    assert caught.value.code == "cms_digest"


@pytest.mark.parametrize("bit", [0x01, 0x20])
def test_no_byte_can_be_changed_unseen(ec_seal: SigningKey, bit: int) -> None:
    """Refused, or another chain comes out, which is then not the one expected."""
    der = cms.sign(ec_seal, DIGEST)
    genuine = cms.verify(der, DIGEST)
    for place in range(len(der)):
        changed = bytearray(der)
        changed[place] ^= bit
        try:
            signer = cms.verify(bytes(changed), DIGEST)
        except errors.Refused:
            continue
        assert signer.certificate == genuine.certificate
        assert signer.others != genuine.others, f"byte {place} was changed and nobody saw it"


def test_bytes_after_the_end_are_refused(seal: SigningKey) -> None:
    """PDF pads the room that is left with zeros; whoever reads it cuts them off first."""
    der = cms.sign(seal, DIGEST)
    with pytest.raises(errors.Refused):
        cms.verify(der + b"\0", DIGEST)
    assert cms.without_padding(der + b"\0\0") == (der, b"\0\0")


def test_a_certificate_of_the_same_name_and_serial_is_not_the_signers(authority: Authority, seal: SigningKey) -> None:
    """Issuer and serial are only a name; signing-certificate-v2 holds the digest (RFC 5035)."""
    twin = authority.issue(p256_key(), serial=seal.certificate.serial_number)
    der = _with_certificates(cms.sign(seal, DIGEST), [twin.public_bytes(Encoding.DER)])
    with pytest.raises(errors.Refused) as caught:
        cms.verify(der, DIGEST)
    assert caught.value.code == "cms_certificate"


def test_a_signature_without_its_certificate_is_refused(authority: Authority, seal: SigningKey) -> None:
    """Six years later nobody would find it."""
    der = _with_certificates(cms.sign(seal, DIGEST), [authority.intermediate.public_bytes(Encoding.DER)])
    with pytest.raises(errors.Refused) as caught:
        cms.verify(der, DIGEST)
    assert caught.value.code == "cms_certificate"


def _two_signers(signed_data: Any) -> None:
    signed_data["signer_infos"] = [signed_data["signer_infos"][0], signed_data["signer_infos"][0]]


def _content_inside(signed_data: Any) -> None:
    signed_data["encap_content_info"]["content"] = b"the document"


def _other_version(signed_data: Any) -> None:
    signed_data["version"] = "v3"


def _unsigned_attribute(signed_data: Any) -> None:
    attribute = {"type": "content_type", "values": ["data"]}
    signed_data["signer_infos"][0]["unsigned_attrs"] = [attribute]


def _no_signed_attributes(signed_data: Any) -> None:
    del signed_data["signer_infos"][0]["signed_attrs"]


def _sha1(signed_data: Any) -> None:
    signed_data["signer_infos"][0]["digest_algorithm"] = {"algorithm": "sha1"}


@pytest.mark.parametrize(
    "change", [_two_signers, _content_inside, _other_version, _unsigned_attribute, _no_signed_attributes, _sha1]
)
def test_any_other_form_is_refused(seal: SigningKey, change: Callable[[Any], None]) -> None:
    """What we do not write we do not accept as ours."""
    info = asn1_cms.ContentInfo.load(cms.sign(seal, DIGEST))
    change(info["content"])
    with pytest.raises(errors.Refused) as caught:
        cms.verify(info.dump(force=True), DIGEST)
    assert caught.value.code == "cms_unreadable"


def test_a_signature_of_another_writer_is_refused(rsa_seal: SigningKey) -> None:
    """With signing-time and without signing-certificate-v2, as S/MIME has it, it is no seal."""
    builder = pkcs7.PKCS7SignatureBuilder().set_data(b"the document")
    builder = builder.add_signer(rsa_seal.certificate, rsa_seal.private_key, hashes.SHA256())
    der = builder.sign(Encoding.DER, [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary])
    with pytest.raises(errors.Refused) as caught:
        cms.verify(der, DIGEST)
    assert caught.value.code == "cms_unreadable"


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    """Input is hostile: never anything but Refused."""
    with pytest.raises(errors.Refused):
        cms.verify(noise, DIGEST)


@given(data=st.data())
def test_a_damaged_signature_is_refused(data: st.DataObject, damaged_from: bytes) -> None:
    """Cut, doubled or overwritten parts: never anything but Refused."""
    start = data.draw(st.integers(0, len(damaged_from) - 1))
    end = data.draw(st.integers(start + 1, min(len(damaged_from), start + 80)))
    instead = data.draw(st.binary(max_size=80))
    damaged = damaged_from[:start] + instead + damaged_from[end:]
    if damaged != damaged_from:
        try:
            signer = cms.verify(damaged, DIGEST)
        except errors.Refused:
            return
        assert signer.others != cms.verify(damaged_from, DIGEST).others


@pytest.fixture(scope="module")
def damaged_from(ec_seal: SigningKey) -> bytes:
    return cms.sign(ec_seal, DIGEST)


def _parsed(der: bytes) -> Any:
    return asn1_cms.ContentInfo.load(der)["content"]


def _with_certificates(der: bytes, certificates: list[bytes]) -> bytes:
    info = asn1_cms.ContentInfo.load(der)
    info["content"]["certificates"] = [
        asn1_cms.CertificateChoices("certificate", asn1_x509.Certificate.load(one)) for one in certificates
    ]
    return bytes(info.dump(force=True))
