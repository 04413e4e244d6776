"""Speak SMTP as a client (RFC 5321) over one connection, and always know what was asked last.

The final dot is given to the kernel alone, after everything before it, so that "cut during DATA" and "cut after
the dot" are told apart by a fact. A reply that is not the one to go on with, or none, raises Ended; a connection
that fails raises OSError, bytes that are no SMTP raise Garbage: transport.py makes an Outcome of each.
"""

import base64
import ssl

from . import reply
from .relay import Envelope, Relay
from .reply import Garbage, Phase, Reply, Silence, Trouble
from .wire import Wire


class Ended(Exception):
    """The dialogue goes no further: a reply that is not the one to go on with, or none."""

    def __init__(self, answer: Reply | Silence) -> None:
        self.answer = answer


class Session:
    """One connection's dialogue; `phase` says what was asked last, `tls` protocol and cipher once there are any."""

    def __init__(self, relay: Relay) -> None:
        self.phase = Phase.CONNECT
        self.tls = ""
        self._relay = relay
        self._wire: Wire | None = None
        self._buffer = bytearray()
        self._extensions: dict[str, str] = {}
        self._owed = 0  # replies outstanding

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
        except (Ended, Garbage, OSError):
            return False
        return True

    def close(self) -> None:
        """Close at once; QUIT is said unless a reply, or the rest of a message, is outstanding."""
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
            raise Ended(Silence(Trouble.NO_STARTTLS))
        await self._ask(Phase.STARTTLS, "STARTTLS", 2)
        if self._buffer:  # said in clear by who knows whom, to be believed as if under TLS
            raise Ended(Silence(Trouble.INJECTED))
        self.phase = Phase.TLS
        self._owed += 1  # no QUIT before the handshake is done
        await self._connected.start_tls(context, self._relay.host)
        self._owed -= 1
        self.tls = self._connected.tls

    async def _log_in(self) -> None:
        """RFC 4954, PLAIN (RFC 4616) or LOGIN."""
        self.phase = Phase.AUTH
        user, password = self._relay.username.encode("utf-8"), self._relay.password
        mechanisms = self._extensions.get("AUTH", "").split()
        if "PLAIN" in mechanisms:
            credentials = _base64(b"\0%b\0%b" % (user, password))
            await self._ask(Phase.AUTH, f"AUTH PLAIN {credentials}", 2)
        elif "LOGIN" in mechanisms:
            await self._ask(Phase.AUTH, "AUTH LOGIN", 3)
            await self._ask(Phase.AUTH, _base64(user), 3)
            await self._ask(Phase.AUTH, _base64(password), 2)
        else:
            raise Ended(Silence(Trouble.NO_AUTH))

    def _checked_size(self, message: bytes) -> str:
        """The SIZE parameter of MAIL where it is offered (RFC 1870); ends here when the relay takes less."""
        limit = self._extensions.get("SIZE")
        if limit is None:
            return ""
        if limit.isdecimal() and 0 < int(limit) < len(message):
            self.phase = Phase.MAIL
            raise Ended(Silence(Trouble.TOO_LARGE, f"{len(message)} octets, and it takes {int(limit)}"))
        return f" SIZE={len(message)}"

    async def _send_body(self, message: bytes) -> None:
        """The message, dots doubled (RFC 5321 4.5.2), without the final dot."""
        self.phase = Phase.BODY
        self._owed += 1
        if self._buffer:  # a reply that was there before the question answers nothing
            raise Ended(Silence(Trouble.GARBAGE, "a reply before the final dot"))
        stuffed = message.replace(b"\r\n.", b"\r\n..")
        try:
            await self._connected.send(b"." + stuffed if stuffed.startswith(b".") else stuffed)
        except OSError as cut:
            # A relay that refuses in the middle says why before it closes; the connection is dead, this cannot hang.
            try:
                raise Ended(await self._next_reply())
            except (Garbage, OSError):
                raise cut from None

    async def _ask(self, phase: Phase, command: str, expected: int) -> Reply:
        await self._say(phase, command)
        return await self._answer(phase, expected)

    async def _say(self, phase: Phase, *commands: str) -> None:
        self.phase = phase
        self._owed += len(commands)
        await self._connected.send("".join(f"{command}\r\n" for command in commands).encode("ascii"))

    async def _answer(self, phase: Phase, expected: int) -> Reply:
        """The next reply; the dialogue ends when its first digit is not `expected`."""
        self.phase = phase
        answer = await self._next_reply()
        self._owed -= 1
        if answer.code // 100 != expected:
            raise Ended(answer)
        return answer

    async def _next_reply(self) -> Reply:
        while (answer := reply.take(self._buffer)) is None:
            arrived = await self._connected.receive()
            if not arrived:
                raise Ended(Silence(Trouble.CUT, "closed by the relay"))
            self._buffer += arrived
        return answer


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
