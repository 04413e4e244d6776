"""Decide whether a certificate leads to a root that the settings trust (RFC 5280 section 6).

pyhanko-certvalidator builds and validates the path. A good verdict is kept and holds while every certificate
of the path is within its validity, because nothing else can change it: revocation is not looked at here.
"""

import asyncio
import datetime as dt
import hashlib
from pathlib import Path

from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko_certvalidator import CertificateValidator, ValidationContext

from ..errors import ConfigError, Refused

_MAX_VERDICTS = 1000


class Trust:
    """The roots that are trusted, and what was found about the certificates seen so far."""

    def __init__(self, roots: tuple[x509.Certificate, ...]) -> None:
        self.roots = roots
        self._validity: dict[bytes, tuple[dt.datetime, dt.datetime]] = {}  # of the path, by digest of its parts

    @classmethod
    def load(cls, paths: tuple[Path, ...]) -> "Trust":
        """The roots of some PEM files; ConfigError when one is missing or holds no certificate."""
        return cls(tuple(certificate for path in paths for certificate in load_certificates(path)))

    def validate(
        self, certificate: x509.Certificate, intermediates: tuple[x509.Certificate, ...], at: dt.datetime
    ) -> None:
        """Refused unless `certificate` may sign and leads to a root, every certificate being valid at `at` (aware).

        Codes: `certificate_usage`, `certificate_untrusted` (no path, or a path with an expired certificate).
        Blocks, and runs an event loop of its own: not to be called on a thread that runs one.
        """
        parts = [part.public_bytes(Encoding.DER) for part in (certificate, *intermediates)]
        identity = hashlib.sha256(b"".join(parts)).digest()
        known = self._validity.get(identity)
        if known is None or not known[0] <= at <= known[1]:
            _check_usage(certificate)
            validity = asyncio.run(self._path_validity(parts[0], parts[1:], at))
            if len(self._validity) >= _MAX_VERDICTS:  # certificates that arrive in documents are not ours to count
                self._validity.clear()
            self._validity[identity] = validity

    def context(self, at: dt.datetime, others: list[bytes]) -> ValidationContext:
        """For pyHanko's validators: these roots, the time `at`, other certificates in DER; nothing is fetched."""
        return ValidationContext(
            trust_roots=[_asn1(root.public_bytes(Encoding.DER)) for root in self.roots],
            other_certs=[_asn1(other) for other in others],
            moment=at,
            allow_fetching=False,
        )

    async def _path_validity(
        self, certificate: bytes, others: list[bytes], at: dt.datetime
    ) -> tuple[dt.datetime, dt.datetime]:
        try:
            validator = CertificateValidator(_asn1(certificate), validation_context=self.context(at, others))
            path = await validator.async_validate_path()
            below_root = list(path.iter_certs(include_root=False)) or [_asn1(certificate)]
            return (
                max(part.not_valid_before for part in below_root),
                min(part.not_valid_after for part in below_root),
            )
        except Exception as error:  # noqa: BLE001 - a hostile certificate makes the parser raise nearly anything
            raise Refused(f"the certificate is not trusted: {error}", code="certificate_untrusted") from None


def load_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM file; ConfigError when it is missing or holds none."""
    try:
        return tuple(x509.load_pem_x509_certificates(path.read_bytes()))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", where=str(path)) from None
    except ValueError:
        raise ConfigError(f"{path}: no certificate in PEM", where=str(path)) from None


def _check_usage(certificate: x509.Certificate) -> None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    except ValueError as error:
        raise Refused(f"the certificate cannot be read: {error}", code="certificate_usage") from None
    if not (usage.digital_signature or usage.content_commitment):
        raise Refused("the certificate's key usage does not allow signatures", code="certificate_usage")


def _asn1(der: bytes) -> asn1_x509.Certificate:
    return asn1_x509.Certificate.load(der)
