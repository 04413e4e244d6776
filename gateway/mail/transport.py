"""Hand a message to the relay and know, whatever happens, whether the relay may have taken it.

The network never raises here: refusals, cuts, hangs, bad certificates and garbage all end in an Outcome, whose
verdict is reply.py's. One deadline, on the monotonic clock, covers the whole attempt. dialogue.py speaks SMTP,
wire.py holds the connection; smtplib has no deadline of an attempt and cannot tell where the final dot was.
"""

import asyncio
import os
import ssl
from dataclasses import dataclass

from .. import clock
from ..errors import Refused, Unavailable
from . import reply
from .dialogue import Ended, Session
from .relay import Envelope, Relay
from .reply import Garbage, Phase, Reply, Silence, Trouble, Verdict

__all__ = ["Connection", "Envelope", "Outcome", "Relay", "send"]


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
        self._session: Session | None = None

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
    ) -> tuple[Session, Reply | Silence]:
        limit = asyncio.timeout(deadline_seconds)
        try:
            async with limit:
                await self._ready()
                assert self._session is not None
                return self._session, await self._session.transact(envelope, message)
        except Ended as ended:
            answer = ended.answer
        except Garbage as error:
            answer = Silence(Trouble.GARBAGE, str(error))
        except (OSError, Unavailable) as error:  # the deadline's TimeoutError is an OSError too
            phase = self._session.phase if self._session else Phase.CONNECT
            answer = Silence(Trouble.DEADLINE) if limit.expired() else _failure(phase, error)
        except BaseException:  # cancelled, somewhere in a dialogue that cannot be taken up again
            self.close()
            raise
        assert self._session is not None
        return self._session, answer

    async def _ready(self) -> None:
        if self._session is None or not await self._session.reset():
            self.close()
            self._session = Session(self.relay)
            await self._session.open()


def _failure(phase: Phase, error: Exception) -> Silence:
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", "") or error.reason or "protocol error"
        return Silence(Trouble.TLS_FAILED if phase is Phase.TLS else Trouble.CUT, str(reason))
    number = error.errno if isinstance(error, OSError) else None
    detail = os.strerror(number) if number and number > 0 else str(getattr(error, "strerror", None) or error)
    return Silence(Trouble.UNREACHABLE if phase is Phase.CONNECT else Trouble.CUT, detail)
