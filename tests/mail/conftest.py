"""A certificate authority of the tests' own, a key that signs mail, and a letter to vary."""

import datetime as dt
import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.domain.states import Kind, Nature
from gateway.keys.load import PrivateKey, SigningKey
from gateway.mail.message import Attachment, Letter

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)
FROM = "factures@gateway.example"


@dataclass(frozen=True)
class Authority:
    """Who certifies: its own certificate and key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def issue(
        self,
        key: PrivateKey,
        *extensions: x509.ExtensionType,
        common_name: str = "leaf",
        email_in_subject: str = "",
        expired: bool = False,
    ) -> x509.Certificate:
        names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if email_in_subject:
            names.append(x509.NameAttribute(NameOID.EMAIL_ADDRESS, email_in_subject))
        end = NOW - DAY if expired else NOW + 30 * DAY
        builder = _builder(x509.Name(names), self.certificate.subject, key.public_key(), NOW - 30 * DAY, end)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        for extension in (*extensions, issuer):
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self.key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: Any, start: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
    identifier = x509.SubjectKeyIdentifier.from_public_key(public_key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)
    return builder.add_extension(identifier, critical=False)


_SIGNS_CERTIFICATES = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
MAIL_PURPOSE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
SIGNS = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
SERVER_PURPOSE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


def address_name(address: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.RFC822Name(address)])


def host_name(name: str) -> x509.SubjectAlternativeName:
    try:
        return x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))])
    except ValueError:
        return x509.SubjectAlternativeName([x509.DNSName(name)])


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="session")
def root() -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test root")])
    builder = _builder(name, name, key.public_key(), NOW - 60 * DAY, NOW + 60 * DAY)
    builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
    builder = builder.add_extension(_SIGNS_CERTIFICATES, critical=True)
    return Authority(key, builder.sign(key, hashes.SHA256()))


@pytest.fixture(scope="session")
def intermediate(root: Authority) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    constraints = (x509.BasicConstraints(True, 0), _SIGNS_CERTIFICATES)
    return Authority(key, root.issue(key, *constraints, common_name="test intermediate"))


@pytest.fixture(scope="session")
def key(rsa_key: rsa.RSAPrivateKey, intermediate: Authority) -> SigningKey:
    """RSA-2048, certified for FROM by the intermediate."""
    certificate = intermediate.issue(
        rsa_key, address_name(FROM), MAIL_PURPOSE, SIGNS, x509.BasicConstraints(False, None), common_name="factures"
    )
    return SigningKey(rsa_key, certificate, (intermediate.certificate,))


@pytest.fixture(scope="session")
def ec_key(intermediate: Authority) -> SigningKey:
    """The same on P-256."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = intermediate.issue(key, address_name(FROM), MAIL_PURPOSE, SIGNS, common_name="factures")
    return SigningKey(key, certificate, (intermediate.certificate,))


@pytest.fixture(scope="session")
def root_file(root: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("roots") / "root.pem"
    path.write_bytes(root.certificate.public_bytes(serialization.Encoding.PEM))
    return path


ServerContext = Callable[..., ssl.SSLContext]


@pytest.fixture(scope="session")
def server_context(root: Authority, tmp_path_factory: pytest.TempPathFactory) -> ServerContext:
    """Make the context of a TLS server: `server_context("127.0.0.1", expired=False, issuer=root)`."""
    folder = tmp_path_factory.mktemp("servers")

    def make(name: str = "127.0.0.1", *, expired: bool = False, issuer: Authority = root) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = (host_name(name), SERVER_PURPOSE, SIGNS, x509.BasicConstraints(False, None))
        certificate = issuer.issue(key, *leaf, expired=expired)
        path = folder / f"{certificate.serial_number}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    return make


def a_letter(**changes: Any) -> Letter:
    """A letter about an ordinary invoice, with what the test says changed."""
    facts: dict[str, Any] = {
        "language": "fr",
        "from_address": FROM,
        "from_name": "Réseau de l'Érable",
        "to_address": "compta@client.example",
        "message_id": "dlv_01hzy3v7j2k4m6n8p0q2r4s6t8@gateway.example",
        "date": dt.datetime(2026, 10, 6, 7, 30, tzinfo=dt.UTC),
        "issuer_name": "Réseau de l'Érable",
        "company_name": "Société Bœuf & Fils",
        "kind": Kind.INVOICE,
        "nature": Nature.ORIGINAL,
        "number": "FA-2026/0042",
        "contract": "CARD-S-77",
        "issue_date": dt.date(2026, 10, 5),
        "period": (dt.date(2026, 9, 1), dt.date(2026, 9, 30)),
        "total": Decimal("1234.56"),
        "currency": "EUR",
        "attachments": (Attachment("20261005_CARD-S-77_FA-2026-0042_ORIG.pdf", "pdf", PDF),),
    }
    return Letter(**(facts | changes))


PDF = b"%PDF-1.7\n" + bytes(range(256)) * 40 + b"\r\n.\r\nFrom here \n%%EOF\n"
