"""Where mail is handed over, from the settings, and what SMTP is asked to carry.

Checked when they are made: a Relay that would be spoken to in clear off loopback is a ConfigError, an Envelope
that holds anything but addresses is Refused. TLS is STARTTLS with a verified certificate, 1.2 or newer.
"""

import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from typing import Self

from ..config import MailSettings
from ..domain.identifiers import mail_address
from ..errors import ConfigError
from ..keys.load import read_private

_HELLO_NAME = re.compile(r"[A-Za-z0-9.-]{1,255}|\[[A-Za-z0-9.:]{1,60}\]")


@dataclass(frozen=True)
class Relay:
    """Where mail is handed over, and how; ConfigError when it would travel in clear off loopback."""

    host: str
    port: int
    hello_name: str
    tls: ssl.SSLContext | None = None  # None: in clear, on loopback only
    username: str = ""  # empty: no AUTH
    password: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if self.tls is None and not _is_loopback(self.host):
            raise ConfigError("[mail] relay_tls: off is allowed on loopback only", where="[mail] relay_tls")
        if not _HELLO_NAME.fullmatch(self.hello_name):
            raise ConfigError("[mail] hello_name: a host name, or an address in brackets", where="[mail] hello_name")

    @classmethod
    def load(cls, settings: MailSettings) -> Self:
        """The relay of the settings, its password and roots read; ConfigError names the file that is wrong."""
        password_file = settings.relay_password_file
        return cls(
            host=settings.relay_host,
            port=settings.relay_port,
            hello_name=settings.hello_name or settings.return_path_domain,
            tls=_tls_context(settings) if settings.relay_tls == "required" else None,
            username=settings.username,
            password=read_private(password_file).rstrip(b"\r\n") if password_file else b"",
        )

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Envelope:
    """What SMTP transports (RFC 5321 2.3.1); not the From and To that a reader sees. Refused: not an address."""

    sender: str  # MAIL FROM: the VERP return path
    recipient: str  # RCPT TO: a delivery has one mailbox

    def __post_init__(self) -> None:
        mail_address(self.sender)
        mail_address(self.recipient)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _tls_context(settings: MailSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.relay_ca)
    except OSError as error:  # ssl.SSLError too
        raise ConfigError(
            f"[mail] relay_ca: {settings.relay_ca}: {error.strerror or error}", where="[mail] relay_ca"
        ) from None
    if settings.relay_ca and not context.cert_store_stats()["x509"]:
        raise ConfigError(f"[mail] relay_ca: {settings.relay_ca}: no certificate in it", where="[mail] relay_ca")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context
