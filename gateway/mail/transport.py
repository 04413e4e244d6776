"""Hand a message to the relay by SMTP (RFC 5321) and know, whatever happens, whether the relay may have taken it.

The network never raises here: refusals, cuts, hangs, bad certificates and garbage all end in an Outcome, whose
verdict is reply.py's. One deadline, on the monotonic clock, covers the whole attempt. The final dot is given to
the kernel alone, after everything before it, so that "cut during DATA" and "cut after the dot" are told apart
by a fact. TLS is STARTTLS (RFC 3207) with a verified certificate, or none at all on loopback: no step down.
"""

import asyncio
import base64
import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from typing import Self

from .. import clock
from ..config import MailSettings
from ..domain.identifiers import mail_address
from ..errors import ConfigError, Refused, Unavailable
from ..keys.load import read_private
from . import reply
from .reply import Garbage, Phase, Reply, Silence, Trouble, Verdict
from .wire import Wire

_HELLO_NAME = re.compile(r"[A-Za-z0-9.-]{1,255}|\[[A-Za-z0-9.:]{1,60}\]")


@dataclass(frozen=True)
class Relay:
    """Where mail is handed over, and how; ConfigError when it would travel in clear off loopback."""

    host: str
    port: int
    hello_name: str
    tls: ssl.SSLContext | None = None  # None: in clear, on loopback only
    username: str = ""  # empty: no AUTH
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.tls is None and not _is_loopback(self.host):
            raise ConfigError("[mail] relay_tls: off is allowed on loopback only", where="[mail] relay_tls")
        if not _HELLO_NAME.fullmatch(self.hello_name):
            raise ConfigError("[mail] hello_name: a host name, or an address in brackets", where="[mail] hello_name")

    @classmethod
    def load(cls, settings: MailSettings) -> Self:
        """The relay of the settings, its password and roots read; ConfigError names the file that is wrong."""
        password = read_private(settings.relay_password_file).rstrip(b"\r\n") if settings.relay_password_file else b""
        return cls(
            host=settings.relay_host,
            port=settings.relay_port,
            hello_name=settings.hello_name or settings.return_path_domain,
            tls=_tls_context(settings) if settings.relay_tls == "required" else None,
            username=settings.username,
            password=password.decode("utf-8"),
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


@dataclass(frozen=True)
class Outcome:
    """What one attempt came to."""

    verdict: Verdict
    relay: str  # host:port
    tls: str  # protocol and cipher; empty: in clear, or not reached
    remote_queue_id: str  # the relay's name for the message; empty: not said
    duration_ms: int


async def send(relay: Relay, envelope: Envelope, message: bytes, deadline_seconds: float) -> Outcome:
    """One message over a connection of its own. See `Connection.send`."""
    connection = Connection(relay)
    try:
        return await connection.send(envelope, message, deadline_seconds)
    finally:
        connection.close()


class Connection:
    """Carries messages to a relay one after the other; opens when the first comes, and again after a failure."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self._session: _Session | None = None

    async def send(self, envelope: Envelope, message: bytes, deadline_seconds: float) -> Outcome:
        """One message: CRLF line ends, the last one included (Refused otherwise), as `smime.verify` saw it.

        `deadline_seconds` covers everything, opening included. Cancelled, it closes the connection and
        leaves no verdict: whoever cancels must count the message as uncertain.
        """
        if not message.endswith(b"\r\n"):
            raise Refused("the message does not end with a line end", code="mail_bytes")
        started = clock.monotonic()
        session, answer = await self._attempt(envelope, message, deadline_seconds)
        verdict = reply.verdict(session.phase, answer)
        accepted = verdict.outcome == "accepted"
        if not accepted:
            self.close()
        return Outcome(
            verdict=verdict,
            relay=str(self.relay),
            tls=session.tls,
            remote_queue_id=answer.queue_id if accepted and isinstance(answer, Reply) else "",
            duration_ms=round((clock.monotonic() - started) * 1000),
        )

    def close(self) -> None:
        """End the connection; QUIT is said where it is due, its answer not waited for."""
        if self._session is not None:
            self._session.close()
            self._session = None

    async def _attempt(
        self, envelope: Envelope, message: bytes, deadline_seconds: float
    ) -> tuple["_Session", Reply | Silence]:
        limit = asyncio.timeout(deadline_seconds)
        try:
            async with limit:
                await self._ready()
                assert self._session is not None
                return self._session, await self._session.transact(envelope, message)
        except _Ended as ended:
            answer = ended.answer
        except Garbage as error:
            answer = Silence(Trouble.GARBAGE, str(error))
        except (OSError, Unavailable) as error:  # the deadline's TimeoutError is an OSError too
            phase = self._session.phase if self._session else Phase.CONNECT
            answer = Silence(Trouble.DEADLINE) if limit.expired() else _failure(phase, error)
        assert self._session is not None
        return self._session, answer

    async def _ready(self) -> None:
        if self._session is None or not await self._session.reset():
            self.close()
            self._session = _Session(self.relay)
            await self._session.open()


class _Ended(Exception):
    """The dialogue goes no further: a reply that is not the one to go on with, or none."""

    def __init__(self, answer: Reply | Silence) -> None:
        self.answer = answer


class _Session:
    """One connection's dialogue. `phase` says what was asked last; `owed` how many replies are outstanding."""

    def __init__(self, relay: Relay) -> None:
        self.phase = Phase.CONNECT
        self.tls = ""
        self._relay = relay
        self._wire: Wire | None = None
        self._buffer = bytearray()
        self._extensions: dict[str, str] = {}
        self._owed = 0

    async def open(self) -> None:
        """Connect, greet, start TLS, log in."""
        self._wire = await Wire.connect(self._relay.host, self._relay.port)
        self._owed = 1
        await self._answer(Phase.BANNER, 2)
        await self._hello()
        if self._relay.tls is not None:
            await self._start_tls(self._relay.tls)
            await self._hello()  # RFC 3207 4.2: what was said in clear is forgotten
        if self._relay.username:  # in clear only on loopback, as Relay made sure
            await self._log_in()

    async def transact(self, envelope: Envelope, message: bytes) -> Reply:
        """The 2yz reply to the final dot."""
        size = self._checked_size(message)
        commands = (
            (Phase.MAIL, f"MAIL FROM:<{envelope.sender}>{size}", 2),
            (Phase.RCPT, f"RCPT TO:<{envelope.recipient}>", 2),
            (Phase.DATA, "DATA", 3),
        )
        if "PIPELINING" in self._extensions:  # RFC 2920: the three in one write, their replies in order
            await self._say(Phase.MAIL, *(command for _, command, _ in commands))
            for phase, _, expected in commands:
                await self._answer(phase, expected)
        else:
            for phase, command, expected in commands:
                await self._ask(phase, command, expected)
        await self._send_body(message)
        self.phase = Phase.DOT
        await self._connected.send(b".\r\n")
        return await self._answer(Phase.DOT, 2)

    async def reset(self) -> bool:
        """Whether the connection is good for another message (RSET)."""
        if self._buffer:  # replies to nothing: the next ones would be taken for what they are not
            return False
        try:
            await self._ask(Phase.CONNECT, "RSET", 2)
        except (_Ended, Garbage, OSError):
            return False
        return True

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close(b"" if self._owed else b"QUIT\r\n")

    @property
    def _connected(self) -> Wire:
        assert self._wire is not None
        return self._wire

    async def _hello(self) -> None:
        answer = await self._ask(Phase.EHLO, f"EHLO {self._relay.hello_name}", 2)
        offered = (line.partition(" ") for line in answer.lines[1:])
        self._extensions = {keyword.upper(): parameters.upper() for keyword, _, parameters in offered}

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        self.phase = Phase.STARTTLS
        if "STARTTLS" not in self._extensions:
            raise _Ended(Silence(Trouble.NO_STARTTLS))
        await self._ask(Phase.STARTTLS, "STARTTLS", 2)
        if self._buffer:  # said in clear by who knows whom, to be believed as if under TLS
            raise _Ended(Silence(Trouble.INJECTED))
        self.phase = Phase.TLS
        self._owed += 1  # no QUIT before the handshake is done
        await self._connected.start_tls(context, self._relay.host)
        self._owed -= 1
        self.tls = self._connected.tls

    async def _log_in(self) -> None:
        """RFC 4954, PLAIN (RFC 4616) or LOGIN."""
        self.phase = Phase.AUTH
        user, password = self._relay.username, self._relay.password
        mechanisms = self._extensions.get("AUTH", "").split()
        if "PLAIN" in mechanisms:
            credentials = _base64(f"\0{user}\0{password}")
            await self._ask(Phase.AUTH, f"AUTH PLAIN {credentials}", 2)
        elif "LOGIN" in mechanisms:
            await self._ask(Phase.AUTH, "AUTH LOGIN", 3)
            await self._ask(Phase.AUTH, _base64(user), 3)
            await self._ask(Phase.AUTH, _base64(password), 2)
        else:
            raise _Ended(Silence(Trouble.NO_AUTH))

    def _checked_size(self, message: bytes) -> str:
        """The SIZE parameter of MAIL where it is offered (RFC 1870); ends here when the relay takes less."""
        limit = self._extensions.get("SIZE")
        if limit is None:
            return ""
        if limit.isdecimal() and 0 < int(limit) < len(message):
            self.phase = Phase.MAIL
            raise _Ended(Silence(Trouble.TOO_LARGE, f"{len(message)} octets, and it takes {int(limit)}"))
        return f" SIZE={len(message)}"

    async def _send_body(self, message: bytes) -> None:
        """The message, dots doubled (RFC 5321 4.5.2), without the final dot."""
        self.phase = Phase.BODY
        self._owed += 1
        if self._buffer:  # a reply that was there before the question answers nothing
            raise _Ended(Silence(Trouble.GARBAGE, "a reply before the final dot"))
        stuffed = message.replace(b"\r\n.", b"\r\n..")
        try:
            await self._connected.send(b"." + stuffed if stuffed.startswith(b".") else stuffed)
        except OSError as cut:
            # A relay that refuses in the middle says why before it closes; the connection is dead, this cannot hang.
            try:
                raise _Ended(await self._next_reply())
            except (Garbage, OSError):
                raise cut from None

    async def _ask(self, phase: Phase, command: str, expected: int) -> Reply:
        await self._say(phase, command)
        return await self._answer(phase, expected)

    async def _say(self, phase: Phase, *commands: str) -> None:
        self.phase = phase
        self._owed += len(commands)
        await self._connected.send("".join(f"{command}\r\n" for command in commands).encode("utf-8"))

    async def _answer(self, phase: Phase, expected: int) -> Reply:
        """The next reply; the dialogue ends when its first digit is not `expected`."""
        self.phase = phase
        answer = await self._next_reply()
        self._owed -= 1
        if answer.code // 100 != expected:
            raise _Ended(answer)
        return answer

    async def _next_reply(self) -> Reply:
        while (answer := reply.take(self._buffer)) is None:
            arrived = await self._connected.receive()
            if not arrived:
                raise _Ended(Silence(Trouble.CUT, "closed by the relay"))
            self._buffer += arrived
        return answer


def _failure(phase: Phase, error: Exception) -> Silence:
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", "") or error.reason or "protocol error"
        return Silence(Trouble.TLS_FAILED if phase is Phase.TLS else Trouble.CUT, str(reason))
    detail = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Silence(Trouble.UNREACHABLE if phase is Phase.CONNECT else Trouble.CUT, detail)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8")).decode("ascii")


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
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context
