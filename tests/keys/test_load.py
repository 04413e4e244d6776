import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from asn1crypto import cms as asn1_cms
from asn1crypto import core
from asn1crypto import pkcs12 as asn1_pkcs12
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

from gateway import errors
from gateway.keys.load import SigningKey, issuers_of, load_pkcs12
from tests.keys.authority import YEAR, Authority, p256_key, write_private

DATA = b"what is signed"


def test_a_pkcs12_file_gives_key_certificate_and_chain_without_the_root(
    authority: Authority, seal: SigningKey, tmp_path: Path
) -> None:
    """The chain goes into every seal; a root that comes with it convinces nobody."""
    loaded = load_pkcs12(*authority.write_pkcs12(tmp_path, seal))
    assert loaded.certificate == seal.certificate
    assert loaded.chain == (authority.intermediate,)
    assert loaded.algorithm == seal.algorithm


def test_a_signature_fits_the_certificate(seal: SigningKey) -> None:
    """SHA-256 with RSA PKCS #1 v1.5 or ECDSA: what every reader of PDFs and mails knows."""
    public_key, signature = seal.certificate.public_key(), seal.sign(DATA)
    if isinstance(public_key, rsa.RSAPublicKey):
        public_key.verify(signature, DATA, padding.PKCS1v15(), hashes.SHA256())
    else:
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        public_key.verify(signature, DATA, ec.ECDSA(hashes.SHA256()))


def test_no_signature_is_longer_than_announced(seal: SigningKey) -> None:
    """The room for it is reserved before it is made."""
    sizes = {len(seal.sign(DATA)) for _ in range(60)}
    assert max(sizes) <= seal.max_signature_size < max(sizes) + 5


def test_who_signs_is_told_as_records_show_it(rsa_seal: SigningKey) -> None:
    """RFC 4514 names, serial and digest in hexadecimal."""
    assert rsa_seal.subject == "CN=Cachet,O=Réseau d'essai,C=FR"
    assert rsa_seal.issuer == "CN=Test Intermediate,O=Réseau d'essai,C=FR"
    assert int(rsa_seal.serial, 16) == rsa_seal.certificate.serial_number
    assert rsa_seal.certificate_sha256 == rsa_seal.certificate.fingerprint(hashes.SHA256()).hex()


def test_a_key_is_not_shown(rsa_seal: SigningKey) -> None:
    """Objects end up in logs."""
    assert "private_key" not in repr(rsa_seal)


@pytest.mark.parametrize(
    ("starts", "ends", "code"), [(-2 * YEAR, -YEAR, "key_expired"), (YEAR, 2 * YEAR, "key_not_yet_valid")]
)
def test_a_key_outside_its_validity_is_unavailable_and_says_the_date(
    authority: Authority, starts: dt.timedelta, ends: dt.timedelta, code: str
) -> None:
    """The documents wait for a renewed key; what is refused would be lost."""
    key = authority.signing_key(p256_key(), starts=starts, ends=ends)
    with pytest.raises(errors.Unavailable) as caught:
        key.check(authority.now)
    date = key.not_after if code == "key_expired" else key.not_before
    assert caught.value.code == code
    assert f"{date:%Y-%m-%d}" in caught.value.message


def test_a_key_is_valid_up_to_the_last_second(rsa_seal: SigningKey) -> None:
    """Both ends belong to the validity, RFC 5280 4.1.2.5."""
    rsa_seal.check(rsa_seal.not_before)
    rsa_seal.check(rsa_seal.not_after)


def test_the_chain_is_ordered_whatever_the_order_in_the_file(authority: Authority, rsa_seal: SigningKey) -> None:
    """PKCS#12 promises no order; certificates of others in the file are left out."""
    stranger = Authority(label="Other")
    bag = [authority.root, stranger.intermediate, authority.intermediate, stranger.root]
    assert issuers_of(rsa_seal.certificate, bag) == (authority.intermediate,)


def _missing(folder: Path, key: SigningKey) -> tuple[Path, Path | None]:
    return folder / "nowhere.p12", None


def _wrong_password(folder: Path, key: SigningKey) -> tuple[Path, Path | None]:
    content, _ = _files(folder, key)
    return content, write_private(folder / "wrong", b"another\n")


def _no_password(folder: Path, key: SigningKey) -> tuple[Path, Path | None]:
    return _files(folder, key)[0], None


def _not_pkcs12(folder: Path, key: SigningKey) -> tuple[Path, Path | None]:
    return write_private(folder / "seal.p12", b"-----BEGIN CERTIFICATE-----\n"), None


def _without_key(folder: Path, key: SigningKey) -> tuple[Path, Path | None]:
    content = pkcs12.serialize_key_and_certificates(b"x", None, key.certificate, None, NoEncryption())
    return write_private(folder / "seal.p12", content), None


def _without_certificate(folder: Path, key: SigningKey) -> tuple[Path, Path | None]:
    content = pkcs12.serialize_key_and_certificates(b"x", key.private_key, None, None, NoEncryption())
    return write_private(folder / "seal.p12", content), None


def _password_readable_by_the_group(folder: Path, key: SigningKey) -> tuple[Path, Path | None]:
    content, password = _files(folder, key)
    password.chmod(0o640)
    return content, password


def _key_readable_by_all(folder: Path, key: SigningKey) -> tuple[Path, Path | None]:
    content, password = _files(folder, key)
    content.chmod(0o604)
    return content, password


def _short_key(folder: Path, key: SigningKey) -> tuple[Path, Path | None]:
    return _files(folder, Authority().signing_key(rsa.generate_private_key(65537, 1024)))


def _ed25519(folder: Path, key: SigningKey) -> tuple[Path, Path | None]:
    other = ed25519.Ed25519PrivateKey.generate()
    certificate = Authority().issue(other)  # type: ignore[arg-type]  # no reader of PDFs knows it
    content = pkcs12.serialize_key_and_certificates(b"x", other, certificate, None, NoEncryption())
    return write_private(folder / "seal.p12", content), None


def _too_large(folder: Path, key: SigningKey) -> tuple[Path, Path | None]:
    return write_private(folder / "seal.p12", bytes(1_000_001)), None


def _files(folder: Path, key: SigningKey) -> tuple[Path, Path]:
    return Authority().write_pkcs12(folder, key)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (_missing, "No such file"),
        (_wrong_password, "wrong password"),
        (_no_password, "wrong password"),
        (_not_pkcs12, "not a PKCS#12 file"),
        (_without_key, "holds no private key"),
        (_without_certificate, "holds no certificate"),
        (_password_readable_by_the_group, "chmod 600"),
        (_key_readable_by_all, "chmod 600"),
        (_short_key, "2048"),
        (_ed25519, "RSA of 2048 bits"),
        (_too_large, "no key"),
    ],
)
def test_what_the_operator_must_mend_names_the_file_and_the_fault(
    broken: Callable[[Path, SigningKey], tuple[Path, Path | None]], says: str, tmp_path: Path, rsa_seal: SigningKey
) -> None:
    """`gateway check` prints this."""
    content, password = broken(tmp_path, rsa_seal)
    with pytest.raises(errors.ConfigError, match=says) as caught:
        load_pkcs12(content, password)
    assert caught.value.facts["where"] in {str(content), str(password)}


def test_a_key_that_does_not_belong_to_the_certificate_is_refused(
    authority: Authority, rsa_seal: SigningKey, ec_seal: SigningKey, tmp_path: Path
) -> None:
    """Every signature would be broken."""
    path = write_private(tmp_path / "seal.p12", _with_certificate_of(rsa_seal, ec_seal))
    with pytest.raises(errors.ConfigError, match="no certificate that belongs"):
        load_pkcs12(path, None)


def _with_certificate_of(key: SigningKey, other: SigningKey) -> bytes:
    content = pkcs12.serialize_key_and_certificates(b"x", key.private_key, key.certificate, None, NoEncryption())
    pfx = asn1_pkcs12.Pfx.load(content)
    safe = asn1_cms.ContentInfo
    parts = asn1_pkcs12.AuthenticatedSafe.load(pfx["auth_safe"]["content"].native)
    changed = []
    for part in parts:
        bags = asn1_pkcs12.SafeContents.load(part["content"].native)
        for bag in bags:
            if bag["bag_id"].native == "cert_bag":
                bag["bag_value"]["cert_value"] = core.ParsableOctetString(other.certificate_der)
        changed.append(safe({"content_type": "data", "content": core.OctetString(bags.dump(force=True))}))
    whole = asn1_pkcs12.AuthenticatedSafe(changed).dump()
    pfx["auth_safe"] = safe({"content_type": "data", "content": core.OctetString(whole)})
    del pfx["mac_data"]
    return bytes(pfx.dump(force=True))
