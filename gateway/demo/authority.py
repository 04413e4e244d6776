"""A certificate authority for the demo, the tests and the benchmarks: a root, an intermediate, and what they issue.

Everything a development machine needs to seal, sign mail and speak TLS on loopback, and nothing that anybody should
trust: every subject says DEVELOPMENT ONLY. The root's key is thrown away once the certificates are made. Conflict when
the directory already holds an authority.
"""

import datetime as dt
import ipaddress
import os
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .. import clock
from ..errors import Conflict
from ..invoices import DISTRIBUTOR, Company

BACKDATED = dt.timedelta(minutes=5)  # a clock that is a little behind still finds the certificates valid
VALID = dt.timedelta(days=730)
_WARNING = "DEVELOPMENT ONLY"
_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Credential:
    """A key with its certificate and chain: PKCS#12, the file with its password, and the certificate alone as PEM."""

    pkcs12: Path
    password_file: Path
    certificate: Path


@dataclass(frozen=True)
class Authority:
    """The files of an authority; `create` makes them."""

    directory: Path

    @classmethod
    def create(
        cls, directory: Path, from_address: str = "factures@gateway.example", company: Company = DISTRIBUTOR
    ) -> Self:
        """Make root, intermediate and the certificates; keys and passwords are mode 0600.

        `from_address` goes into the S/MIME certificate, `company` into the seal's.
        """
        authority = cls(directory)
        if authority.root.exists():
            raise Conflict("this directory already holds a certificate authority", code="authority_exists")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        issuer = _Issuer.root().intermediate()
        seal = issuer.issue(_rsa(), _organisation(company), _SEAL)
        mail = issuer.issue(_rsa(), _plain(f"{company.name} mail"), _MAIL, [x509.RFC822Name(from_address)])
        tls = issuer.issue(_elliptic(), _plain("localhost"), _TLS, _LOOPBACK)
        _write_credential(authority.seal, seal, issuer.chain)
        _write_credential(authority.mail, mail, issuer.chain)
        _write_private(authority.tls_key, _pem_key(tls.key))
        authority.tls_certificate.write_bytes(_pem(tls.certificate, *issuer.chain[:1]))
        authority.intermediate.write_bytes(_pem(issuer.chain[0]))
        authority.root.write_bytes(_pem(issuer.chain[-1]))  # last: its presence says that all is there
        return authority

    @property
    def root(self) -> Path:
        """The trust anchor, PEM."""
        return self.directory / "root.pem"

    @property
    def intermediate(self) -> Path:
        """The issuing certificate, PEM."""
        return self.directory / "intermediate.pem"

    @property
    def seal(self) -> Credential:
        """The organisation's seal on documents."""
        return self._credential("seal")

    @property
    def mail(self) -> Credential:
        """S/MIME."""
        return self._credential("mail")

    @property
    def tls_certificate(self) -> Path:
        """TLS server certificate for localhost, 127.0.0.1 and ::1, with its issuer, PEM."""
        return self.directory / "tls.pem"

    @property
    def tls_key(self) -> Path:
        """Its private key, PEM, without password."""
        return self.directory / "tls.key"

    def server_context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer, for a server on loopback."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.tls_certificate, self.tls_key)
        return context

    def _credential(self, name: str) -> Credential:
        return Credential(
            self.directory / f"{name}.p12", self.directory / f"{name}.password", self.directory / f"{name}.pem"
        )


@dataclass(frozen=True)
class _Purpose:
    """What a certificate may be used for: key usages (RFC 5280 4.2.1.3), extended key usages."""

    usages: frozenset[str]
    extended: tuple[x509.ObjectIdentifier, ...] = ()
    valid: dt.timedelta = VALID


_SEAL = _Purpose(frozenset({"digital_signature", "content_commitment"}))
_MAIL = _Purpose(frozenset({"digital_signature", "content_commitment"}), (ExtendedKeyUsageOID.EMAIL_PROTECTION,))
_TLS = _Purpose(
    frozenset({"digital_signature"}), (ExtendedKeyUsageOID.SERVER_AUTH,), dt.timedelta(days=365)
)  # browsers take no more
_AUTHORITY = _Purpose(frozenset({"key_cert_sign", "crl_sign"}))
_LOOPBACK = [
    x509.DNSName("localhost"),
    *(x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")),
]


@dataclass(frozen=True)
class _Issued:
    key: _Key
    certificate: x509.Certificate


@dataclass(frozen=True)
class _Issuer:
    """Something that issues. `chain`: its own certificate first, the root last."""

    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]

    @classmethod
    def root(cls) -> Self:
        key, name = _elliptic(), _plain("root authority")
        builder = _builder(key.public_key(), name, name, key.public_key(), _AUTHORITY)
        certificate = builder.add_extension(x509.BasicConstraints(True, 1), critical=True).sign(key, hashes.SHA256())
        return cls(key, (certificate,))

    def intermediate(self) -> Self:
        key = _elliptic()
        builder = self._build(key, _plain("intermediate authority"), _AUTHORITY)
        return type(self)(key, (self._sign(builder, x509.BasicConstraints(True, 0)), *self.chain))

    def issue(
        self, key: _Key, subject: x509.Name, purpose: _Purpose, names: list[x509.GeneralName] | None = None
    ) -> _Issued:
        builder = self._build(key, subject, purpose)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return _Issued(key, self._sign(builder, x509.BasicConstraints(False, None)))

    def _build(self, key: _Key, subject: x509.Name, purpose: _Purpose) -> x509.CertificateBuilder:
        return _builder(key.public_key(), subject, self.chain[0].subject, self.key.public_key(), purpose)

    def _sign(self, builder: x509.CertificateBuilder, constraints: x509.BasicConstraints) -> x509.Certificate:
        return builder.add_extension(constraints, critical=True).sign(self.key, hashes.SHA256())


def _builder(
    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    subject: x509.Name,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePublicKey,
    purpose: _Purpose,
) -> x509.CertificateBuilder:
    start = clock.now() - BACKDATED
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + purpose.valid)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
        .add_extension(_key_usage(purpose.usages), critical=True)
    )
    if purpose.extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purpose.extended), critical=False)
    return builder


def _key_usage(usages: frozenset[str]) -> x509.KeyUsage:
    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{usage: usage in usages for usage in every})


def _plain(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "FR"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _WARNING),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{name} ({_WARNING})"),
        ]
    )


def _organisation(company: Company) -> x509.Name:
    """A legal person's subject (ETSI EN 319 412-3, identifier as in 319 412-1 5.1.4)."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "FR"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, company.name),
            x509.NameAttribute(NameOID.ORGANIZATION_IDENTIFIER, f"NTRFR-{company.siren}"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{company.name} seal ({_WARNING})"),
        ]
    )


def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _elliptic() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def _pem_key(key: _Key) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def _write_credential(to: Credential, issued: _Issued, chain: tuple[x509.Certificate, ...]) -> None:
    password = secrets.token_urlsafe(24).encode("ascii")
    encryption = serialization.BestAvailableEncryption(password)
    name = to.pkcs12.stem.encode("ascii")
    content = pkcs12.serialize_key_and_certificates(name, issued.key, issued.certificate, chain, encryption)
    _write_private(to.pkcs12, content)
    _write_private(to.password_file, password + b"\n")
    to.certificate.write_bytes(_pem(issued.certificate))


def _write_private(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
