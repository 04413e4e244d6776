"""TLS for FTPS: TLS 1.2 and 1.3, forward secrecy, AEAD ciphers (RFC 9325; Mozilla's "intermediate" list without DHE).

Each control connection gets a context of its own, so that only its own data connections can resume its session: a
ticket of somebody else's session is not accepted. Renegotiation and compression are off.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from ..errors import ConfigError

log = structlog.get_logger(__name__)
_lib: Any = SSL._lib  # type: ignore[attr-defined]
_CIPHERS = b":".join(
    (
        b"ECDHE-ECDSA-AES128-GCM-SHA256",
        b"ECDHE-RSA-AES128-GCM-SHA256",
        b"ECDHE-ECDSA-AES256-GCM-SHA384",
        b"ECDHE-RSA-AES256-GCM-SHA384",
        b"ECDHE-ECDSA-CHACHA20-POLY1305",
        b"ECDHE-RSA-CHACHA20-POLY1305",
    )
)
_SUITES = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"  # of TLS 1.3; cheapest first
_CURVES = b"X25519:P-256:P-384"


@dataclass(frozen=True)
class Identity:
    """The server's certificate, its chain, its key."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: PrivateKeyTypes

    @classmethod
    def load(cls, certificate: Path | None, key: Path | None) -> "Identity":
        """From PEM files; ConfigError says which cannot be used."""
        if certificate is None:
            raise ConfigError("[ftps.certificate] is needed to serve FTPS", where="[ftps.certificate]")
        try:
            first, *chain = x509.load_pem_x509_certificates(certificate.read_bytes())
            private = load_pem_private_key((key or certificate).read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"[ftps.certificate] {certificate.name}: {error}", where="[ftps.certificate]") from None
        if private.public_key() != first.public_key():
            raise ConfigError("[ftps.key] is not the certificate's", where="[ftps.key]")
        return cls(first, tuple(chain), private)

    def context(self) -> SSL.Context:
        """A new one, which knows no session yet."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
        context.set_cipher_list(_CIPHERS)
        context.set_tls13_ciphersuites(_SUITES)
        # OpenSSL's own list has curves that nobody needs; pyOpenSSL has the function without a name for it.
        if _lib.SSL_CTX_set1_curves_list(context._context, _CURVES) != 1:
            raise ConfigError("this OpenSSL knows none of the curves that FTPS needs", where="[ftps]")
        context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
        context.set_session_id(os.urandom(16))
        context.use_certificate(self.certificate)
        for above in self.chain:
            context.add_extra_chain_cert(above)
        context.use_privatekey(self.key)  # type: ignore[arg-type]
        return context


def is_resumed(connection: SSL.Connection) -> bool:
    """Whether the connection resumed a session of its context; pyOpenSSL has the function without a name for it."""
    return bool(_lib.SSL_session_reused(connection._ssl))


def take_whole_writes(connection: SSL.Connection) -> None:
    """Let one write take many records; pyOpenSSL has contexts take one each time, and the mode without a name."""
    _lib.SSL_clear_mode(connection._ssl, _lib.SSL_MODE_ENABLE_PARTIAL_WRITE)


def write(connection: Any, data: bytes) -> int:
    """As its `send`, without all that goes around the call when it succeeds."""
    count: int = _lib.SSL_write(connection._ssl, data, len(data))
    if count <= 0:
        connection._raise_ssl_error(connection._ssl, count)
    return count
