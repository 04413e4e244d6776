"""Load the keys that sign: private key, certificate, chain, checked once and kept for the life of the process.

Today's source is a PKCS#12 file (RFC 7292). A token is another function that returns a `SigningKey`, whose
`private_key` implements cryptography's interface and lets the token sign.

Fails with ConfigError (which file, what is wrong with it) for what only the operator can mend, and with
Unavailable (`SigningKey.check`) outside the certificate's validity: what waits for the key keeps waiting.
"""

import datetime as dt
import os
import stat
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from ..errors import ConfigError, Unavailable

MIN_RSA_BITS = 2048  # ETSI TS 119 312
MIN_CURVE_BITS = 256
MAX_FILE_BYTES = 1_000_000

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, eq=False)
class SigningKey:
    """A private key with the certificate that names its holder.

    `chain` runs from the certificate's issuer upwards, as far as the source had it, without the self-issued
    root: whoever verifies brings that along, or has no reason to trust it.
    """

    private_key: PrivateKey = field(repr=False)
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()

    def sign(self, data: bytes) -> bytes:
        """Signature over the SHA-256 of `data`: RSA PKCS #1 v1.5 (RFC 8017), or ECDSA in DER (RFC 3279 2.2.3)."""
        if isinstance(self.private_key, rsa.RSAPrivateKey):
            return self.private_key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self.private_key.sign(data, ec.ECDSA(hashes.SHA256()))

    @property
    def algorithm(self) -> str:
        """`rsa` or `ecdsa`."""
        return "rsa" if isinstance(self.private_key, rsa.RSAPrivateKey) else "ecdsa"

    @cached_property
    def max_signature_size(self) -> int:
        """Bytes that `sign` returns at most; an ECDSA signature is often a few bytes shorter."""
        if isinstance(self.private_key, rsa.RSAPrivateKey):
            return self.private_key.key_size // 8
        return 2 * ((self.private_key.key_size + 7) // 8 + 3) + 4  # SEQUENCE of two INTEGERs with their sign octets

    @cached_property
    def certificate_der(self) -> bytes:
        """The certificate as it is embedded in what we sign."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @cached_property
    def certificate_sha256(self) -> str:
        """Hexadecimal, lower case, of the certificate's DER."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @cached_property
    def subject(self) -> str:
        """Distinguished name, RFC 4514."""
        return self.certificate.subject.rfc4514_string()

    @cached_property
    def issuer(self) -> str:
        """Distinguished name of who certified it, RFC 4514."""
        return self.certificate.issuer.rfc4514_string()

    @cached_property
    def serial(self) -> str:
        """Serial number, hexadecimal, lower case."""
        return f"{self.certificate.serial_number:x}"

    @property
    def not_before(self) -> dt.datetime:
        """First instant of validity, UTC."""
        return self.certificate.not_valid_before_utc

    @property
    def not_after(self) -> dt.datetime:
        """Last instant of validity, UTC."""
        return self.certificate.not_valid_after_utc

    def check(self, now: dt.datetime) -> None:
        """Unavailable unless the certificate is valid at `now` (aware)."""
        if now < self.not_before:
            raise Unavailable(
                f"the certificate of {self.subject} is not valid before {self.not_before:%Y-%m-%d %H:%M} UTC",
                code="key_not_yet_valid",
                certificate_sha256=self.certificate_sha256,
            )
        if now > self.not_after:
            raise Unavailable(
                f"the certificate of {self.subject} expired on {self.not_after:%Y-%m-%d %H:%M} UTC",
                code="key_expired",
                certificate_sha256=self.certificate_sha256,
            )


def load_pkcs12(path: Path, password_file: Path | None) -> SigningKey:
    """The key, certificate and chain of a PKCS#12 file.

    `password_file` holds the password, UTF-8, one line ending ignored; None: the file has none. ConfigError
    when a file is missing, open to others, or unusable: wrong password, no key or certificate, a key of
    another kind or too short, a key that does not belong to the certificate.
    """
    content = read_private(path)
    password = None if password_file is None else read_private(password_file).rstrip(b"\r\n")
    try:
        bundle = pkcs12.load_pkcs12(content, password or None)
    except ValueError as error:
        raise ConfigError(f"{path}: wrong password, or not a PKCS#12 file ({error})", where=str(path)) from None
    if bundle.key is None or bundle.cert is None:
        missing = "private key" if bundle.key is None else "certificate that belongs to its private key"
        raise ConfigError(f"{path}: holds no {missing}", where=str(path))
    certificate = bundle.cert.certificate
    others = [extra.certificate for extra in bundle.additional_certs]
    return SigningKey(_accepted(bundle.key, path), certificate, issuers_of(certificate, others))


def read_private(path: Path) -> bytes:
    """The content of a file that holds a secret; ConfigError when it is missing or open to others.

    The rule is PostgreSQL's for its key file: owned by this user and 0600 or stricter, or owned by root and
    0640 or stricter (systemd shows credentials that way, by an ACL).
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", where=str(path)) from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: over {MAX_FILE_BYTES} bytes, this is no key", where=str(path))
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"{path}: belongs to another user", where=str(path))
    mode = stat.S_IMODE(status.st_mode)
    allowed = 0o600 if status.st_uid == os.geteuid() else 0o640
    if mode & 0o077 & ~allowed:
        raise ConfigError(f"{path}: others may use it (mode {mode:04o}); chmod 600 it", where=str(path))
    return content


def issuers_of(certificate: x509.Certificate, candidates: list[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """From the issuer of `certificate` upwards, as far as the candidates go; a self-issued root is left out."""
    chain: list[x509.Certificate] = []
    above = certificate
    while issuer := _issuer_among(above, candidates):
        if issuer.subject == issuer.issuer or issuer in chain:
            break
        chain.append(issuer)
        above = issuer
    return tuple(chain)


def _issuer_among(certificate: x509.Certificate, candidates: list[x509.Certificate]) -> x509.Certificate | None:
    return next((candidate for candidate in candidates if _issued(candidate, certificate)), None)


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def _accepted(key: object, path: Path) -> PrivateKey:
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size >= MIN_CURVE_BITS:
        return key
    raise ConfigError(
        f"{path}: the key must be RSA of {MIN_RSA_BITS} bits or more, or EC of {MIN_CURVE_BITS} bits or more",
        where=str(path),
    )
