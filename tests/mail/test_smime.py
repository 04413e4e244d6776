"""A signature holds on the raw bytes, or the message is refused before it is stored."""

import base64
import datetime as dt
import hashlib
import re

import pytest
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError, Refused
from gateway.keys.load import SigningKey
from gateway.mail import smime
from gateway.mail.message import Attachment, entity, header
from tests.mail.conftest import FROM, MAIL_PURPOSE, PDF, SERVER_PURPOSE, SIGNS, Authority, a_letter, address_name

NOW = dt.datetime(2026, 3, 2, 8, tzinfo=dt.UTC)
SHA256 = [hashlib.sha256(PDF).hexdigest()]


@pytest.fixture(scope="module")
def message(key: SigningKey) -> bytes:
    return header(a_letter()) + smime.sign(entity(a_letter()), key, NOW)


def refusal(message: bytes, key: SigningKey, attachments: list[str] = SHA256) -> str:
    with pytest.raises(Refused) as refused:
        smime.verify(message, key.certificate, attachments)
    return refused.value.code


def test_what_was_signed_verifies(message: bytes, key: SigningKey) -> None:
    """RSA, with the document inside."""
    smime.verify(message, key.certificate, SHA256)


def test_an_elliptic_key_signs_too(ec_key: SigningKey) -> None:
    """P-256."""
    message = header(a_letter()) + smime.sign(entity(a_letter()), ec_key, NOW)
    smime.verify(message, ec_key.certificate, SHA256)


def test_the_signed_entity_stands_between_the_boundaries_byte_for_byte(message: bytes, key: SigningKey) -> None:
    """RFC 1847: the CRLF before a boundary belongs to the boundary."""
    signed, _ = smime.split(message)
    assert signed == entity(a_letter())


def test_the_structure_is_what_rfc_8551_says(message: bytes, key: SigningKey) -> None:
    """protocol, micalg, the names of the signature's part, base64 lines, the whole chain inside."""
    parameters = rb'multipart/signed; protocol="application/pkcs7-signature";\r\n micalg=sha-256; boundary='
    assert re.search(rb"\r\nContent-Type: " + parameters, message)
    assert max(map(len, message.split(b"\r\n"))) <= 76
    _, signature = smime.split(message)
    held = cms.ContentInfo.load(signature)["content"]["certificates"]
    serials = {choice.chosen.serial_number for choice in held}
    assert serials == {key.certificate.serial_number, *(issuer.serial_number for issuer in key.chain)}


@given(st.data())
def test_one_changed_byte_of_the_entity_is_found(message: bytes, key: SigningKey, data: st.DataObject) -> None:
    """Whatever it changes: a text, a header inside, the document."""
    signed, _ = smime.split(message)
    start = message.index(signed)
    position = start + data.draw(st.integers(0, len(signed) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != message[position]))
    tampered = message[:position] + bytes((other,)) + message[position + 1 :]
    assert refusal(tampered, key).startswith("mail_")


@given(st.data())
def test_a_changed_signature_is_found_or_means_the_same(message: bytes, key: SigningKey, data: st.DataObject) -> None:
    """Hostile DER ends in a refusal, never in another error. Unsigned parts (a chain certificate) may change."""
    _, signature = smime.split(message)
    position = data.draw(st.integers(0, len(signature) - 1))
    changed = signature[:position] + bytes((signature[position] ^ 0x55,)) + signature[position + 1 :]
    tampered = header(a_letter()) + smime.multipart_signed(entity(a_letter()), changed)
    code = ""
    try:
        smime.verify(tampered, key.certificate, SHA256)
    except Refused as refused:
        code = refused.code
    assert code == "mail_signature" or (code == "" and key.certificate_der in changed)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda m: m.replace(b"\r\n", b"\n"), "mail_bytes"),
        (lambda m: m.replace(b"\r\n", b"\n", 1), "mail_bytes"),
        (lambda m: m.replace(b"Bonjour", b"Bonjour\r"), "mail_bytes"),
        (lambda m: m.replace(b"Bonjour,", "Bonjour é".encode()), "mail_bytes"),
        (lambda m: m.replace(b"Bonjour,", b"Bonjour, "), "mail_bytes"),
        (lambda m: m.replace(b"Bonjour,", b"x" * 999), "mail_bytes"),
        (lambda m: m.replace(b"Bonjour,", b"Bonjour;"), "mail_signature"),
        (lambda m: m.replace(b"--\r\n\r\n--=_", b"--\r\n--=_", 1), "mail_signature"),
        (
            lambda m: re.sub(rb"--\r\n\r\n(--=_\w+\r\nContent-Type: application/pkcs7)", rb"--\r\n\1", m),
            "mail_signature",
        ),
        (lambda m: m[:-4] + b"\r\n", "mail_structure"),
        (lambda m: m + b"more\r\n", "mail_structure"),
        (lambda m: m.replace(b"multipart/signed", b"multipart/mixed"), "mail_structure"),
        (
            lambda m: m.replace(b"Content-Type: application/pkcs7-signature", b"Content-Type: text/plain"),
            "mail_structure",
        ),
        (lambda m: b"", "mail_structure"),
        (lambda m: b"From: x\r\n\r\nbody\r\n", "mail_structure"),
    ],
)
def test_what_breaks_signatures_on_the_way_is_refused_here(
    message: bytes, key: SigningKey, change: object, code: str
) -> None:
    """LF line ends, 8 bits, trailing blanks, long lines, a CRLF off by one: lenient readers forgive some of them."""
    changed = change(message)  # type: ignore[operator]
    assert changed != message
    assert refusal(changed, key) == code


@pytest.mark.parametrize(("length", "code"), [(998, "mail_signature"), (999, "mail_bytes")])
@pytest.mark.parametrize("line", [b"From: ", b"Bonjour,"])
def test_a_line_may_have_998_characters(message: bytes, key: SigningKey, line: bytes, length: int, code: str) -> None:
    """RFC 5322 2.1.1; one more, and a relay breaks the line and the signature. The first line counts too."""
    found = re.search(rb"^" + line + rb"[^\r]*", message, re.MULTILINE)
    assert found is not None
    changed = message[: found.start()] + line.ljust(length, b"x") + message[found.end() :]
    if line == b"From: " and length == 998:
        smime.verify(changed, key.certificate, SHA256)  # the header is not what is signed
    else:
        assert refusal(changed, key) == code


def test_another_signer_is_refused(message: bytes, ec_key: SigningKey, key: SigningKey) -> None:
    """The mail must be signed with the configured certificate, not merely signed."""
    assert refusal(message, ec_key) == "mail_signature"
    foreign = header(a_letter()) + smime.sign(entity(a_letter()), ec_key, NOW)
    assert refusal(foreign, key) == "mail_signature"


def test_a_certificate_that_did_not_sign_is_refused(key: SigningKey, rsa_key: rsa.RSAPrivateKey) -> None:
    """Our certificate beside another key's signature proves nothing."""
    other = rsa.generate_private_key(65537, 2048)
    message = header(a_letter()) + smime.sign(entity(a_letter()), SigningKey(other, key.certificate, key.chain), NOW)
    assert refusal(message, key) == "mail_signature"


def test_the_attachments_must_be_the_documents(message: bytes, key: SigningKey) -> None:
    """A swapped, missing or additional document is found before the mail is stored."""
    other = hashlib.sha256(b"other").hexdigest()
    for expected in ([other], [], [*SHA256, other]):
        assert refusal(message, key, expected) == "mail_attachments"
    letter = a_letter(attachments=(Attachment("a.pdf", "pdf", b"a"), Attachment("b.xml", "xml", b"b")))
    two = header(letter) + smime.sign(entity(letter), key, NOW)
    in_order = [hashlib.sha256(content).hexdigest() for content in (b"a", b"b")]
    smime.verify(two, key.certificate, in_order)
    assert refusal(two, key, in_order[::-1]) == "mail_attachments"


def test_base64_is_read_strictly() -> None:
    """A decoder that skips what it does not know would find the same bytes in different messages."""
    encoded = base64.b64encode(b"content!")
    assert smime.base64_content(encoded[:4] + b"\r\n" + encoded[4:] + b"\r\n") == b"content!"
    for broken in (encoded[:-1], encoded + b"=", b"*" + encoded, encoded[:4] + b" " + encoded[4:]):
        with pytest.raises(Refused):
            smime.base64_content(broken)


def certified(key: SigningKey, authority: Authority, *extensions: x509.ExtensionType, subject: str = "") -> SigningKey:
    return SigningKey(key.private_key, authority.issue(key.private_key, *extensions, email_in_subject=subject))


def test_a_certificate_for_the_from_address_is_accepted(key: SigningKey, root: Authority) -> None:
    """In the alternative name, or in the subject as older authorities write it; without regard to case."""
    smime.check_certificate(key, FROM)
    smime.check_certificate(certified(key, root, address_name(FROM.upper())), FROM)
    smime.check_certificate(certified(key, root, subject=FROM), FROM)


def test_a_certificate_for_another_address_or_purpose_is_a_wrong_setting(key: SigningKey, root: Authority) -> None:
    """Every reader would warn of every mail."""
    no_signing = x509.KeyUsage(False, False, True, False, False, False, False, False, False)
    for wrong, said in (
        (certified(key, root), "does not hold the From address"),
        (certified(key, root, address_name("other@gateway.example")), "does not hold the From address"),
        (certified(key, root, address_name(FROM), SERVER_PURPOSE), "not meant for e-mail"),
        (certified(key, root, address_name(FROM), MAIL_PURPOSE, no_signing), "does not allow signatures"),
    ):
        with pytest.raises(ConfigError, match=said):
            smime.check_certificate(wrong, FROM)
    smime.check_certificate(certified(key, root, address_name(FROM), MAIL_PURPOSE, SIGNS), FROM)
