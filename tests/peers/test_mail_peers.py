"""What OpenSSL, which nobody here wrote, says of our signatures: as a mail reader, and on the raw bytes."""

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from gateway.keys.load import SigningKey
from gateway.mail import smime
from gateway.mail.compose import compose
from gateway.mail.message import entity
from tests.mail.conftest import NOW, a_letter, ec_key, intermediate, key, root, root_file, rsa_key
from tests.peers import program, requires

pytestmark = requires("openssl")
__all__ = ["ec_key", "intermediate", "key", "root", "root_file", "rsa_key"]  # fixtures


@pytest.fixture(params=["rsa", "ecdsa"])
def signing_key(request: pytest.FixtureRequest, key: SigningKey, ec_key: SigningKey) -> SigningKey:
    return key if request.param == "rsa" else ec_key


def cms_verify(*arguments: str | Path, root: Path, folder: Path) -> tuple[bool, bytes]:
    out = folder / "out"
    out.unlink(missing_ok=True)
    command = [program("openssl"), "cms", "-verify", "-CAfile", root, "-purpose", "smimesign", "-out", out, *arguments]
    done = subprocess.run(command, capture_output=True, check=False, timeout=30)
    return done.returncode == 0, out.read_bytes() if done.returncode == 0 else b""


def test_a_mail_reader_verifies_the_message(signing_key: SigningKey, root_file: Path, tmp_path: Path) -> None:
    """OpenSSL's S/MIME parser, the chain from the message itself, the purpose of signing mail."""
    message = compose(a_letter(), signing_key, NOW)
    path = tmp_path / "message.eml"
    path.write_bytes(message.content)
    verified, content = cms_verify("-in", path, root=root_file, folder=tmp_path)
    assert verified
    assert content == entity(a_letter())
    path.write_bytes(message.content.replace(b"Bonjour", b"Bonsoir"))
    assert not cms_verify("-in", path, root=root_file, folder=tmp_path)[0]


def test_the_raw_bytes_between_the_boundaries_verify(signing_key: SigningKey, root_file: Path, tmp_path: Path) -> None:
    """As a mail reader, `openssl cms` forgives LF line ends; on the raw bytes, in binary, nothing is forgiven."""
    content, signature = smime.split(compose(a_letter(), signing_key, NOW).content)
    (tmp_path / "signature").write_bytes(signature)
    raw = ("-binary", "-inform", "DER", "-in", tmp_path / "signature", "-content", tmp_path / "content")
    (tmp_path / "content").write_bytes(content)
    assert cms_verify(*raw, root=root_file, folder=tmp_path)[0]
    (tmp_path / "content").write_bytes(content.replace(b"\r\n", b"\n"))
    assert not cms_verify(*raw, root=root_file, folder=tmp_path)[0]


def test_the_chain_travels_with_the_message(signing_key: SigningKey, root_file: Path, tmp_path: Path) -> None:
    """A reader that knows only the root must find the intermediate in the signature."""
    bare = SigningKey(signing_key.private_key, signing_key.certificate, chain=())
    for signer, expected in ((signing_key, True), (bare, False)):
        path = tmp_path / "message.eml"
        path.write_bytes(compose(a_letter(), signer, NOW).content)
        assert cms_verify("-in", path, root=root_file, folder=tmp_path)[0] is expected


def test_openssl_names_our_certificate_as_the_signers(signing_key: SigningKey, root_file: Path, tmp_path: Path) -> None:
    """And not one of the chain."""
    path = tmp_path / "message.eml"
    path.write_bytes(compose(a_letter(), signing_key, NOW).content)
    assert cms_verify("-in", path, "-signer", tmp_path / "signer.pem", root=root_file, folder=tmp_path)[0]
    assert (tmp_path / "signer.pem").read_bytes() == signing_key.certificate.public_bytes(serialization.Encoding.PEM)
