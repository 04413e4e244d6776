"""A certificate authority for tests: root, intermediate, and whatever certificates a test asks for."""

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from gateway.keys.load import PrivateKey, SigningKey

YEAR = dt.timedelta(days=365)
PASSWORD = b"a test's password"


def rsa_key() -> rsa.RSAPrivateKey:
    """RSA-2048."""
    return rsa.generate_private_key(65537, 2048)


def p256_key() -> ec.EllipticCurvePrivateKey:
    """EC on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def name(common_name: str) -> x509.Name:
    """C, O and CN, as a seal's certificate has them."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "FR"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Réseau d'essai"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


@dataclass
class Authority:
    """Root and intermediate; `issue` signs with the intermediate."""

    now: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC).replace(microsecond=0))
    label: str = "Test"

    def __post_init__(self) -> None:
        self._root_key, self._intermediate_key = p256_key(), p256_key()
        self.root = self._authority(name(f"{self.label} Root"), self._root_key, None)
        self.intermediate = self._authority(name(f"{self.label} Intermediate"), self._intermediate_key, self.root)

    def intermediate_until(self, ends: dt.datetime) -> x509.Certificate:
        """The intermediate, with the same key, valid no longer than that."""
        subject = name(f"{self.label} Intermediate")
        return self._authority(subject, self._intermediate_key, self.root, ends)

    def _authority(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        issuer: x509.Certificate | None,
        ends: dt.datetime | None = None,
    ) -> x509.Certificate:
        usage = key_usage(key_cert_sign=True, crl_sign=True)
        builder = _builder(subject, issuer.subject if issuer else subject, key, self._root_key)
        builder = builder.not_valid_before(self.now - 5 * YEAR).not_valid_after(ends or self.now + 10 * YEAR)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return builder.add_extension(usage, critical=True).sign(self._root_key, hashes.SHA256())

    def issue(
        self,
        key: PrivateKey,
        common_name: str = "Cachet",
        *,
        starts: dt.timedelta = -YEAR,
        ends: dt.timedelta = YEAR,
        usage: x509.KeyUsage | None = None,
        serial: int | None = None,
        extension: x509.ExtensionType | None = None,
    ) -> x509.Certificate:
        """An end certificate; by default one that may seal (digitalSignature, nonRepudiation), without SAN."""
        issuer = self.intermediate.subject
        builder = _builder(name(common_name), issuer, key, self._intermediate_key, serial)
        builder = builder.not_valid_before(self.now + starts).not_valid_after(self.now + ends)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        usage = usage or key_usage(digital_signature=True, content_commitment=True)
        builder = builder.add_extension(usage, critical=True)
        if extension is not None:
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(self._intermediate_key, hashes.SHA256())

    def signing_key(
        self,
        key: PrivateKey | None = None,
        common_name: str = "Cachet",
        starts: dt.timedelta = -YEAR,
        ends: dt.timedelta = YEAR,
    ) -> SigningKey:
        """A key that seals, RSA-2048 unless given, with its certificate and the intermediate."""
        key = key or rsa_key()
        return SigningKey(key, self.issue(key, common_name, starts=starts, ends=ends), (self.intermediate,))

    def write_pkcs12(self, folder: Path, key: SigningKey, file_name: str = "seal") -> tuple[Path, Path]:
        """PKCS#12 with the chain and the root, and the file of its password; both 0600."""
        content = pkcs12.serialize_key_and_certificates(
            b"seal",
            key.private_key,
            key.certificate,
            [self.root, *key.chain],
            serialization.BestAvailableEncryption(PASSWORD),
        )
        return (
            write_private(folder / f"{file_name}.p12", content),
            write_private(folder / f"{file_name}.password", PASSWORD + b"\n"),
        )

    def write_root(self, folder: Path) -> Path:
        """The root in PEM."""
        return write_pem(folder / f"{self.label}-root.pem", self.root)


def write_private(path: Path, content: bytes) -> Path:
    """A file of mode 0600."""
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def write_pem(path: Path, certificate: x509.Certificate) -> Path:
    """A certificate in PEM."""
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: PrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    serial: int | None = None,
) -> x509.CertificateBuilder:
    serial = serial or x509.random_serial_number()
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), serial)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return builder.add_extension(identifier, critical=False)


def key_usage(**bits: bool) -> x509.KeyUsage:
    """Those bits and no others."""
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{bit: bits.get(bit, False) for bit in names})
