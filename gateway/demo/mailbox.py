"""A mailbox server for the demo and the tests: takes mail over SMTP (RFC 5321) on loopback and keeps it.

As in a maildir, a message is written under tmp/, synced, and renamed into new/; only then does the sender read 250.
Beside `new/ID.eml`, the bytes as received, stands `new/ID.json`, the envelope; the envelope is there first. Own domain
only, few recipients, a size limit, a limit of connections: nothing is relayed. A message that cannot be written is
answered 451; ConfigError for an address off loopback.
"""

import asyncio
import datetime as dt
import ipaddress
import json
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from .. import clock
from ..errors import ConfigError
from ..pools import ThreadPool

log = structlog.get_logger(__name__)

MAX_RECIPIENTS = 10
MAX_CONNECTIONS = 50
MAX_BYTES = 32_000_000
IDLE_SECONDS = 60.0


@dataclass(frozen=True)
class Received:
    """A message that was accepted. `sender` is the envelope's, empty for a DSN; `recipients` as in RCPT TO."""

    path: Path
    sender: str
    recipients: tuple[str, ...]
    received_at: dt.datetime
    tls: bool


class Mailbox:
    """All addresses of one domain. `tls`: a server's context, to offer STARTTLS; without it there is none."""

    def __init__(self, directory: Path, domain: str, tls: ssl.SSLContext | None = None) -> None:
        self._directory = directory
        self._domain = domain.lower()
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._disk = ThreadPool("mailbox", 1, MAX_CONNECTIONS)
        for name in ("tmp", "new"):
            (directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; the port, which port 0 leaves to the system."""
        if not ipaddress.ip_address(host).is_loopback:
            raise ConfigError("the demo's mailbox server listens on loopback only", where="host")
        self._server = await asyncio.get_running_loop().create_server(self._connection, host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening, close what is open; a message whose 250 was not sent may be there or not."""
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.hang_up()
        self._disk.close()

    def messages(self) -> list[Received]:
        """What was accepted so far, oldest first."""
        return [_read(path) for path in sorted((self._directory / "new").glob("*.eml"))]

    def _connection(self) -> "_Connection":
        return _Connection(
            self._connections,
            _Handler(self._directory, self._domain, self._disk),
            hostname=f"mx.{self._domain}",
            ident="demo mailbox",
            data_size_limit=MAX_BYTES,
            tls_context=self._tls,
            enable_SMTPUTF8=False,
            timeout=IDLE_SECONDS,
            loop=asyncio.get_running_loop(),
        )


class _Connection(SMTP):
    """One client's connection, known to the mailbox for as long as it is open."""

    def __init__(self, siblings: "set[_Connection]", handler: "_Handler", **options: object) -> None:
        super().__init__(handler, **options)  # type: ignore[arg-type]
        self._siblings = siblings

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # After STARTTLS this is called again, with the transport inside TLS.
        self._siblings.add(self)
        super().connection_made(transport)
        if len(self._siblings) > MAX_CONNECTIONS:
            self.hang_up()

    def connection_lost(self, error: Exception | None) -> None:
        self._siblings.discard(self)
        super().connection_lost(error)

    def hang_up(self) -> None:
        if self.transport is not None:
            self.transport.close()


class _Handler:
    """What aiosmtpd asks: one method a command, its answer the reply."""

    def __init__(self, directory: Path, domain: str, disk: ThreadPool) -> None:
        self._directory = directory
        self._domain = domain
        self._disk = disk

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.rpartition("@")[2].lower() != self._domain:
            return "550 5.7.1 this server does not relay"
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return "452 4.5.3 too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        name = clock.new_id("msg")
        facts = {
            "sender": (envelope.mail_from or "").strip("<>"),  # the null sender comes as '<>' from some clients
            "recipients": envelope.rcpt_tos,
            "received_at": clock.now().isoformat(),
            "tls": session.ssl is not None,
        }
        await self._disk.run(_keep, self._directory, name, envelope.original_content, json.dumps(facts).encode())
        log.info("mailbox.received", message=name, recipients=len(envelope.rcpt_tos), tls=facts["tls"])
        return f"250 2.0.0 kept as {name}"

    async def handle_exception(self, error: Exception) -> str:
        log.error("mailbox.failed", error=repr(error))
        return "451 4.3.0 not now, try again"


def _keep(directory: Path, name: str, content: bytes, facts: bytes) -> None:
    """Envelope first, then message: whoever sees the message finds its envelope."""
    for file, data in ((f"{name}.json", facts), (f"{name}.eml", content)):
        temporary = directory / "tmp" / file
        with temporary.open("xb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.rename(directory / "new" / file)
    folder = os.open(directory / "new", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> Received:
    facts = json.loads(path.with_suffix(".json").read_bytes())
    return Received(
        path,
        facts["sender"],
        tuple(facts["recipients"]),
        dt.datetime.fromisoformat(facts["received_at"]),
        facts["tls"],
    )
