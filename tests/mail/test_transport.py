"""Every way a relay can answer, or not, ends in the right outcome; and the final dot decides what is uncertain."""

import asyncio
import contextlib
import ssl
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from gateway.config import MailSettings
from gateway.errors import ConfigError, Refused
from gateway.mail import reply
from gateway.mail.reply import Phase
from gateway.mail.transport import Connection, Envelope, Outcome, Relay, send
from tests.mail.conftest import Authority, ServerContext
from tests.mail.relays import ANSWERS, STEPS, Peer, Script, scripted

T = TypeVar("T")
ENVELOPE = Envelope("b+x@gateway.example", "compta@client.example")
MESSAGE = b"From: a@b.example\r\n\r\n.a line with a dot\r\n..\r\n" + b"x" * 70 + b"\r\n.\r\nend\r\n"
SHORT = 0.6  # seconds: the deadline where silence is expected
LONG = 10.0


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def relay_at(port: int, **changes: Any) -> Relay:
    return Relay("127.0.0.1", port, "gateway.example", **changes)


async def attempt(
    script: Script, *, deadline: float = LONG, message: bytes = MESSAGE, receive_buffer: int = 0, **changes: Any
) -> tuple[Outcome, Peer]:
    async with scripted(script, receive_buffer) as (port, peers):
        outcome = await send(relay_at(port, **changes), ENVELOPE, message, deadline)
    assert len(peers) == 1
    return outcome, peers[0]


def found(outcome: Outcome) -> tuple[str, Phase]:
    return outcome.verdict.outcome, outcome.verdict.phase


# What a relay does instead of answering well. The lines that end a dialogue must end it at once, not at the deadline.
ACTIONS: dict[str, Script] = {
    "421": lambda peer: peer.say("421 4.3.2 shutting down"),
    "450": lambda peer: peer.say("450-4.2.1 later\r\n450 4.2.1 greylisted"),
    "550": lambda peer: peer.say("550 5.7.1 no"),
    "cut": lambda peer: peer.cut(),
    "reset": lambda peer: peer.reset(),
    "garbage": lambda peer: peer.send(b"\x15\x03\x01\x00\x02\x02\x0a\r\n"),
    "bare_lf": lambda peer: peer.send(b"250 ok\n"),
    "two_codes": lambda peer: peer.send(b"250-ok\r\n550 no\r\n"),
    "1yz": lambda peer: peer.say("150 wait"),
}


async def no_crlf(peer: Peer) -> None:
    await peer.send(b"250 ok")
    await peer.cut()


async def half_a_reply(peer: Peer) -> None:
    await peer.send(b"250-ok\r\n250")
    await peer.reset()


async def flood(peer: Peer) -> None:
    while True:
        await peer.send(b"250-more and more\r\n" * 1000)


async def flood_of_one_line(peer: Peer) -> None:
    while True:
        await peer.send(b"x" * 65_536)


async def trickle(peer: Peer) -> None:
    await peer.send(b"250-")
    while True:
        await peer.send(b"a")
        await asyncio.sleep(0.02)


ACTIONS |= {"no_crlf": no_crlf, "half_a_reply": half_a_reply, "flood": flood, "flood_of_one_line": flood_of_one_line}
SILENT: dict[str, Script] = {"hang": lambda peer: peer.hang(), "trickle": trickle}


def expected(phase: Phase, action: str) -> str:
    if action in {"421", "450"}:
        return "deferred"
    if action == "550":
        return "deferred" if phase in {Phase.BANNER, Phase.EHLO} else "failed"
    return "uncertain" if phase is Phase.DOT else "deferred"


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "one_by_one"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("phase", STEPS)
def test_a_bad_answer_ends_the_attempt_as_the_policy_says(phase: Phase, action: str, pipelining: bool) -> None:
    """4yz again, 5yz about a message final, anything unclear again; after the dot anything unclear is uncertain."""

    async def script(peer: Peer) -> None:
        if not pipelining:
            peer.extensions = ("SIZE",)
        await peer.play(until=phase)
        await ACTIONS[action](peer)
        await peer.hang()

    outcome, peer = run(attempt(script))
    assert found(outcome) == (expected(phase, action), phase)
    assert outcome.verdict.of_relay == (phase in {Phase.BANNER, Phase.EHLO} or action == "421")
    assert outcome.verdict.reply
    assert outcome.duration_ms < LONG * 500
    assert bool(peer.messages) == (phase is Phase.DOT)


@pytest.mark.parametrize(
    ("phase", "line"), [(Phase.DATA, "250 ok"), (Phase.MAIL, "354 go on"), (Phase.DOT, "354 go on")]
)
def test_an_answer_to_another_question_is_no_answer(phase: Phase, line: str) -> None:
    """A 250 to DATA, or a 354 to anything else: the two sides no longer mean the same."""

    async def script(peer: Peer) -> None:
        await peer.play(until=phase)
        await peer.say(line)
        await peer.hang()

    outcome, _ = run(attempt(script))
    assert found(outcome) == ("uncertain" if phase is Phase.DOT else "deferred", phase)
    assert outcome.verdict.reply == f"unexpected: {line}"


@pytest.mark.parametrize("action", SILENT)
@pytest.mark.parametrize("phase", STEPS)
def test_silence_ends_at_the_attempts_deadline(phase: Phase, action: str) -> None:
    """A relay that hangs, or sends a byte now and then, holds a sender for one deadline and no longer."""

    async def script(peer: Peer) -> None:
        await peer.play(until=phase)
        await SILENT[action](peer)

    outcome, _ = run(attempt(script, deadline=SHORT))
    assert found(outcome) == (expected(phase, action), phase)
    assert outcome.verdict.reply == "no answer before the deadline"
    assert SHORT * 900 <= outcome.duration_ms < SHORT * 1000 + 2000


def test_a_good_relay_accepts_and_names_the_message() -> None:
    """2yz to the final dot; the bytes are those that were given."""
    outcome, peer = run(attempt(lambda peer: peer.play()))
    assert found(outcome) == ("accepted", Phase.DOT)
    assert outcome.remote_queue_id == "4XyZ12abc"
    assert outcome.tls == ""
    assert outcome.relay.startswith("127.0.0.1:")
    assert peer.content == MESSAGE
    assert peer.heard == [
        "EHLO gateway.example",
        f"MAIL FROM:<b+x@gateway.example> SIZE={len(MESSAGE)}",
        "RCPT TO:<compta@client.example>",
        "DATA",
    ]


def test_accepted_stays_accepted_when_the_relay_then_resets() -> None:
    """The 250 is the promise; what comes after it changes nothing. Nor does a relay that is slow to say it."""

    async def script(peer: Peer) -> None:
        await peer.play(until=Phase.DOT)
        await asyncio.sleep(0.2)
        await peer.say(ANSWERS[Phase.DOT])
        await peer.reset()

    assert found(run(attempt(script))[0]) == ("accepted", Phase.DOT)


def test_quit_is_said_where_it_is_due_and_nowhere_else() -> None:
    """After a whole dialogue, also a refused one; never into the middle of one."""

    async def to_the_end(peer: Peer) -> None:
        await peer.play()
        with contextlib.suppress(EOFError, asyncio.IncompleteReadError):
            await peer.hear()

    async def refused_at_data(peer: Peer) -> None:
        await peer.play(until=Phase.DATA)
        await peer.say("451 4.3.0 not now")
        await peer.hear()

    async def refused_with_replies_owed(peer: Peer) -> None:
        await peer.play(until=Phase.MAIL)
        await peer.say("451 4.3.0 not now")
        await peer.hear(), await peer.hear()
        await peer.hear()

    async def heard(script: Script) -> str:
        async with scripted(script) as (port, peers):
            await send(relay_at(port), ENVELOPE, MESSAGE, LONG)
            await asyncio.sleep(0.05)
            return peers[0].heard[-1]

    assert run(heard(to_the_end)) == "QUIT"
    assert run(heard(refused_at_data)) == "QUIT"
    assert run(heard(refused_with_replies_owed)) == "DATA"


def test_a_refused_connection_is_deferred() -> None:
    """Nothing listens: the relay's trouble."""

    async def nobody() -> Outcome:
        async with scripted(lambda peer: peer.play()) as (port, _):
            pass
        return await send(relay_at(port), ENVELOPE, MESSAGE, LONG)

    outcome = run(nobody())
    assert found(outcome) == ("deferred", Phase.CONNECT)
    assert outcome.verdict.of_relay
    assert "refused" in outcome.verdict.reply


def test_a_name_without_an_address_is_deferred(server_context: ServerContext) -> None:
    """DNS is away, or the relay's name is wrong; whatever is said of it, no error escapes."""
    for name in ("does-not-exist.invalid", "x" * 64 + ".invalid"):
        relay = Relay(name, 25, "gateway.example", tls=ssl.create_default_context())
        assert found(run(send(relay, ENVELOPE, MESSAGE, LONG))) == ("deferred", Phase.CONNECT)


# The body: everything before the final dot.

BIG = b"From: a@b.example\r\n\r\n" + (b"x" * 70 + b"\r\n") * 300_000  # more than both sockets' buffers hold


@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        ("cut", "deferred"),
        ("reset", "deferred"),
        ("421", "deferred"),
        ("550", "failed"),
        ("garbage", "deferred"),
    ],
)
def test_cut_before_the_final_dot_is_never_uncertain(action: str, outcome: str) -> None:
    """The dot has not left, so the relay cannot have taken the message; its last words count where it left any."""

    async def script(peer: Peer) -> None:
        await peer.play(until=Phase.DATA)
        await peer.say("354 go on")
        await peer.reader.readexactly(1000)
        await ACTIONS[action](peer)
        if action not in {"cut", "reset"}:
            await peer.cut()

    result, _ = run(attempt(script, message=BIG, receive_buffer=4096))
    assert found(result) == (outcome, Phase.BODY)


def test_a_relay_that_stops_reading_is_deferred_at_the_deadline() -> None:
    """The body is stuck in the kernel, and the dot behind it was not even written."""

    async def script(peer: Peer) -> None:
        await peer.play(until=Phase.DATA)
        await peer.say("354 go on")
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(LONG)

    outcome, _ = run(attempt(script, message=BIG, deadline=1.0, receive_buffer=4096))
    assert found(outcome) == ("deferred", Phase.BODY)


def test_a_reply_before_the_final_dot_is_no_reply_to_it() -> None:
    """A 250 sent together with the 354 would be taken for the acceptance of a message that was never read."""

    async def script(peer: Peer) -> None:
        await peer.play(until=Phase.DATA)
        await peer.send(b"354 go on\r\n250 2.0.0 Ok: queued as EARLY\r\n")
        await peer.hear(Phase.DOT)

    outcome, peer = run(attempt(script))
    assert found(outcome) == ("deferred", Phase.BODY)
    assert not peer.messages


def test_a_message_larger_than_the_relay_takes_is_not_begun() -> None:
    """RFC 1870: the relay said how much in its EHLO."""

    async def script(peer: Peer) -> None:
        peer.extensions = ("SIZE 100",)
        await peer.play()

    outcome, peer = run(attempt(script))
    assert found(outcome) == ("failed", Phase.MAIL)
    assert outcome.verdict.reply == f"larger than the relay takes: {len(MESSAGE)} octets, and it takes 100"
    assert len(peer.heard) == 1


@pytest.mark.parametrize("extensions", [("SIZE 0",), ("SIZE",), ("SIZE many",), ("size 999999", "pipelining")])
def test_an_ehlo_is_read_without_regard_to_case_and_oddities(extensions: tuple[str, ...]) -> None:
    """SIZE 0 is no limit (RFC 1870 4)."""

    async def script(peer: Peer) -> None:
        peer.extensions = extensions
        await peer.play()

    outcome, peer = run(attempt(script))
    assert found(outcome) == ("accepted", Phase.DOT)
    assert f"SIZE={len(MESSAGE)}" in peer.heard[1]


def test_a_message_without_a_final_line_end_is_refused() -> None:
    """The dot would not stand alone on its line; the relay would wait for ever."""
    with pytest.raises(Refused):
        run(send(relay_at(1), ENVELOPE, b"From: a@b.example\r\n\r\nx", LONG))


@pytest.mark.parametrize("address", ["a@b.example>\r\nRCPT TO:<x@y.example", "a b@c.example", "", "é@b.example"])
def test_an_envelope_holds_addresses_and_nothing_else(address: str) -> None:
    """A line end in an address would be another command."""
    with pytest.raises(Refused):
        Envelope(address, "compta@client.example")
    with pytest.raises(Refused):
        Envelope("b+x@gateway.example", address)


def test_a_cancelled_attempt_closes_its_connection() -> None:
    """At a stop of the daemon; the relay sees the end, the caller its cancellation."""

    async def cancelled() -> bool:
        gone = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.play(until=Phase.DOT)
            await peer.hang()
            gone.set()

        async with scripted(script) as (port, peers):
            task = asyncio.create_task(send(relay_at(port), ENVELOPE, MESSAGE, LONG))
            while not (peers and peers[0].messages):
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(gone.wait(), LONG)
            return gone.is_set()

    assert run(cancelled())


# One connection, several messages.


async def several(peer: Peer) -> None:
    await peer.play()
    while await peer.hear() == "RSET":
        await peer.say("250 2.0.0 ok")
        for phase in STEPS[2:]:
            await peer.hear(phase)
            await peer.say(ANSWERS[phase])


def test_a_connection_carries_one_message_after_the_other() -> None:
    """RSET between them, and QUIT at the end."""

    async def three() -> list[Peer]:
        async with scripted(several) as (port, peers):
            connection = Connection(relay_at(port))
            for number in range(3):
                message = MESSAGE + b"%d\r\n" % number
                outcome = await connection.send(ENVELOPE, message, LONG)
                assert found(outcome) == ("accepted", Phase.DOT)
            connection.close()
            await asyncio.sleep(0.05)
            return peers

    (peer,) = run(three())
    assert peer.messages == [MESSAGE + b"%d\r\n" % number for number in range(3)]
    assert peer.heard[-1] == "QUIT"


def test_a_cancelled_message_ends_the_connection_that_carried_it() -> None:
    """Half a message cannot be taken up again: the next one goes over a new connection."""

    async def script(peer: Peer) -> None:
        await peer.play(until=Phase.DOT)
        if b"slow" in peer.content:
            await peer.hang()
        await peer.say(ANSWERS[Phase.DOT])

    async def two() -> int:
        async with scripted(script) as (port, peers):
            connection = Connection(relay_at(port))
            task = asyncio.create_task(connection.send(ENVELOPE, MESSAGE + b"slow\r\n", LONG))
            while not (peers and peers[0].messages):
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert found(await connection.send(ENVELOPE, MESSAGE, LONG)) == ("accepted", Phase.DOT)
            connection.close()
            return len(peers)

    assert run(two()) == 2


@pytest.mark.parametrize("farewell", ["cut", "421", "stale"])
def test_a_connection_that_the_relay_ended_between_messages_is_opened_again(farewell: str) -> None:
    """Relays close idle connections; no message is deferred for it. A reply to nothing is as bad."""

    async def script(peer: Peer) -> None:
        await peer.play(until=Phase.DOT)
        if farewell == "stale":
            await peer.send(b"250 2.0.0 ok\r\n250 2.0.0 again\r\n")
            await peer.hang()
        await peer.say(ANSWERS[Phase.DOT])
        await ACTIONS[farewell](peer)

    async def two() -> int:
        async with scripted(script) as (port, peers):
            connection = Connection(relay_at(port))
            for _ in range(2):
                assert found(await connection.send(ENVELOPE, MESSAGE, LONG)) == ("accepted", Phase.DOT)
                await asyncio.sleep(0.05)
            connection.close()
            return len(peers)

    assert run(two()) == 2


# TLS.


@pytest.fixture(scope="module")
def trusting(root_file: Path) -> ssl.SSLContext:
    """The client's context, with the tests' root and no other."""
    return Relay.load(MailSettings(relay_ca=root_file)).tls or pytest.fail("no TLS")


def over_tls(context: ssl.SSLContext, after: Script) -> Script:
    async def script(peer: Peer) -> None:
        peer.extensions = ("STARTTLS", "PIPELINING")
        await _hello_and_tls(peer)
        await peer.start_tls(context)
        peer.extensions = ("PIPELINING", "AUTH PLAIN LOGIN")
        await after(peer)

    return script


async def _hello_and_tls(peer: Peer) -> None:
    await peer.play(until=Phase.EHLO)
    await peer.say(peer.hello())
    assert await peer.hear() == "STARTTLS"
    await peer.say("220 2.0.0 go ahead")


async def the_rest(peer: Peer) -> None:
    for phase in STEPS[1:]:
        await peer.hear(phase)
        await peer.say(ANSWERS.get(phase) or peer.hello())


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_mail_goes_over_tls_and_says_so(runner: Any, server_context: ServerContext, trusting: ssl.SSLContext) -> None:
    """After the handshake EHLO is said again: what the relay offered in clear is forgotten."""
    message = b"From: a@b.example\r\n\r\n" + (b"y" * 70 + b"\r\n") * 20_000
    script = over_tls(server_context(), the_rest)
    outcome, peer = runner(attempt(script, tls=trusting, message=message))
    assert found(outcome) == ("accepted", Phase.DOT)
    assert outcome.tls.startswith("TLSv1.")
    assert len(outcome.tls) <= 60
    assert peer.content == message
    assert peer.in_clear == ["EHLO gateway.example", "STARTTLS"]


@pytest.mark.parametrize("action", ["cut", "reset", "garbage", "no_crlf", "450", "550"])
def test_the_dot_decides_under_tls_too(action: str, server_context: ServerContext, trusting: ssl.SSLContext) -> None:
    """A reset, an unannounced end of TLS and an announced one look alike: uncertain after the dot."""

    async def after(peer: Peer) -> None:
        for phase in STEPS[1:-1]:
            await peer.hear(phase)
            await peer.say(ANSWERS.get(phase) or peer.hello())
        await peer.hear(Phase.DOT)
        await ACTIONS[action](peer)
        await peer.hang()

    outcome, _ = run(attempt(over_tls(server_context(), after), tls=trusting))
    assert found(outcome) == (expected(Phase.DOT, action), Phase.DOT)


@pytest.mark.parametrize("fault", ["expired", "misnamed", "unknown_authority"])
def test_a_bad_certificate_is_deferred_and_nothing_is_said_to_it(
    fault: str, server_context: ServerContext, trusting: ssl.SSLContext, root: Authority
) -> None:
    """Whoever sits there may be anyone; alerts follow, mail does not."""
    stranger = Authority(root.key, root.issue(root.key, common_name="stranger"))
    context = {
        "expired": lambda: server_context(expired=True),
        "misnamed": lambda: server_context("other.example"),
        "unknown_authority": lambda: server_context(issuer=stranger),
    }[fault]()
    outcome, peer = run(attempt(over_tls(context, the_rest), tls=trusting))
    assert found(outcome) == ("deferred", Phase.TLS)
    assert outcome.verdict.of_relay
    assert outcome.verdict.reply.startswith("TLS failed: ")
    assert outcome.tls == ""
    assert peer.heard == ["EHLO gateway.example", "STARTTLS"]


async def no_starttls(peer: Peer) -> None:
    await peer.play()


async def starttls_refused(peer: Peer, line: str = "454 4.7.0 not now") -> None:
    peer.extensions = ("STARTTLS",)
    await peer.play(until=Phase.EHLO)
    await peer.say(peer.hello())
    await peer.hear()
    await peer.say(line)
    await peer.hang()


async def starttls_cut(peer: Peer) -> None:
    peer.extensions = ("STARTTLS",)
    await _hello_and_tls(peer)
    await peer.cut()


async def starttls_garbage(peer: Peer) -> None:
    peer.extensions = ("STARTTLS",)
    await _hello_and_tls(peer)
    await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
    await peer.hang()


async def starttls_hang(peer: Peer) -> None:
    peer.extensions = ("STARTTLS",)
    await _hello_and_tls(peer)
    await peer.hang()


async def starttls_injected(peer: Peer) -> None:
    peer.extensions = ("STARTTLS",)
    await peer.play(until=Phase.EHLO)
    await peer.say(peer.hello())
    await peer.hear()
    await peer.send(b"220 go ahead\r\n250 welcome\r\n250-relay.example\r\n250 AUTH PLAIN\r\n")
    await peer.hang()


@pytest.mark.parametrize(
    ("script", "phase", "said"),
    [
        (no_starttls, Phase.STARTTLS, "the relay offers no STARTTLS"),
        (starttls_refused, Phase.STARTTLS, "454 4.7.0 not now"),
        (lambda peer: starttls_refused(peer, "502 5.5.1 what?"), Phase.STARTTLS, "502 5.5.1 what?"),
        (starttls_injected, Phase.STARTTLS, "bytes in clear behind the reply to STARTTLS"),
        (starttls_cut, Phase.TLS, "connection cut"),
        (starttls_garbage, Phase.TLS, "TLS failed: "),
        (starttls_hang, Phase.TLS, "no answer before the deadline"),
    ],
)
def test_without_tls_nothing_is_sent_where_tls_is_required(
    script: Script, phase: Phase, said: str, trusting: ssl.SSLContext
) -> None:
    """No step down to clear text, and nothing that was said in clear is believed afterwards."""
    outcome, peer = run(attempt(script, tls=trusting, deadline=1.0))
    assert found(outcome) == ("deferred", phase)
    assert outcome.verdict.of_relay
    assert outcome.verdict.reply.startswith(said)
    assert not any(line.startswith(("MAIL", "AUTH", "RCPT")) for line in peer.heard)


def test_clear_text_is_for_loopback_only() -> None:
    """No relay elsewhere can be configured without TLS."""
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        Relay(host, 25, "gateway.example")
    for host in ("192.0.2.1", "relay.example", "localhost.example", "0.0.0.0"):
        with pytest.raises(ConfigError, match="loopback"):
            Relay(host, 25, "gateway.example")


# AUTH, against scripts and against aiosmtpd.


@pytest.mark.parametrize(
    ("offered", "said", "outcome"),
    [
        ("AUTH PLAIN", "235 2.7.0 welcome", ("accepted", Phase.DOT)),
        ("AUTH PLAIN LOGIN", "535 5.7.8 wrong password", ("deferred", Phase.AUTH)),
        ("AUTH PLAIN", "454 4.7.0 away", ("deferred", Phase.AUTH)),
        ("AUTH PLAIN", "334 more", ("deferred", Phase.AUTH)),
        ("AUTH CRAM-MD5", "", ("deferred", Phase.AUTH)),
        ("8BITMIME", "", ("deferred", Phase.AUTH)),
    ],
)
def test_a_log_in_that_fails_is_the_relays_trouble(offered: str, said: str, outcome: tuple[str, Phase]) -> None:
    """A wrong password fails no message; mail is never sent without the log-in that was configured."""

    async def script(peer: Peer) -> None:
        peer.extensions = (offered, "PIPELINING")
        await peer.play(until=Phase.EHLO)
        await peer.say(peer.hello())
        await peer.hear()
        await peer.say(said)
        for phase in STEPS[2:]:
            await peer.hear(phase)
            await peer.say(ANSWERS[phase])

    result, peer = run(attempt(script, username="gw", password="s3crét".encode()))
    assert found(result) == outcome
    assert result.verdict.of_relay == (outcome[1] is Phase.AUTH)
    assert "s3cr" not in repr(result) + repr(relay_at(1, password="s3crét".encode()))
    if said:
        assert peer.heard[1] == "AUTH PLAIN AGd3AHMzY3LDqXQ="


class Keeps:
    """aiosmtpd's handler: keeps what comes."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, list[str], bytes, bool]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.kept.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content, session.ssl is not None))
        return "250 2.0.0 kept"


@contextlib.asynccontextmanager
async def aiosmtpd(**options: Any) -> Any:
    """A real server, not ours: the port and its handler."""
    handler = Keeps()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(handler, loop=loop, hostname="mx", **options), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], handler
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_a_real_server_takes_the_mail_over_tls_with_a_log_in(
    mechanism: str, server_context: ServerContext, trusting: ssl.SSLContext
) -> None:
    """aiosmtpd demands STARTTLS and AUTH; byte for byte what was given, under the envelope that was given."""

    def check(server: Any, session: Any, envelope: Any, used: str, data: Any) -> AuthResult:
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"gw", "s3crét".encode())
        return AuthResult(success=right, handled=right)

    async def attempted(password: str) -> tuple[Outcome, Keeps]:
        options = {
            "tls_context": server_context(),
            "require_starttls": True,
            "authenticator": check,
            "auth_required": True,
            "auth_exclude_mechanism": [{"PLAIN": "LOGIN", "LOGIN": "PLAIN"}[mechanism]],
        }
        async with aiosmtpd(**options) as (port, handler):
            relay = relay_at(port, tls=trusting, username="gw", password=password.encode())
            return await send(relay, ENVELOPE, MESSAGE, LONG), handler

    outcome, handler = run(attempted("s3crét"))
    assert found(outcome) == ("accepted", Phase.DOT)
    assert handler.kept == [("b+x@gateway.example", ["compta@client.example"], MESSAGE, True)]
    refused, handler = run(attempted("wrong"))
    assert found(refused) == ("deferred", Phase.AUTH)
    assert refused.verdict.reply.startswith("535 5.7.8")
    assert not handler.kept


def test_a_real_server_in_clear_on_loopback() -> None:
    """What the demo does."""

    async def attempted() -> tuple[Outcome, Keeps]:
        async with aiosmtpd() as (port, handler):
            return await send(Relay("localhost", port, "gateway.example"), ENVELOPE, MESSAGE, LONG), handler

    outcome, handler = run(attempted())
    assert found(outcome) == ("accepted", Phase.DOT)
    assert handler.kept[0][2] == MESSAGE


# The settings.


def private(path: Path, content: str) -> Path:
    path.write_text(content, "utf-8")
    path.chmod(0o600)
    return path


def test_the_relay_of_the_settings(tmp_path: Path, root_file: Path) -> None:
    """The password is read once, at the start, from a file that is nobody else's; it is in no repr."""
    settings = MailSettings(
        relay_host="relay.example",
        relay_port=587,
        relay_ca=root_file,
        username="gw",
        relay_password_file=private(tmp_path / "password", "s3crét\n"),
        return_path_domain="bounces.example",
    )
    relay = Relay.load(settings)
    assert (str(relay), relay.hello_name, relay.password) == ("relay.example:587", "bounces.example", "s3crét".encode())
    assert relay.tls is not None
    assert relay.tls.verify_mode is ssl.CERT_REQUIRED
    assert relay.tls.check_hostname
    assert relay.tls.minimum_version is ssl.TLSVersion.TLSv1_2
    assert "s3cr" not in repr(relay)


@pytest.mark.parametrize(
    "changes",
    [
        {"relay_tls": "off"},
        {"relay_ca": "missing.pem"},
        {"relay_ca": "empty.pem"},
        {"relay_password_file": "open"},
        {"hello_name": "a\r\nMAIL FROM:<x@y.example>"},
    ],
)
def test_a_wrong_setting_is_found_at_the_start(tmp_path: Path, changes: dict[str, Any]) -> None:
    """And not at night, by the first mail."""
    (tmp_path / "empty.pem").touch()
    private(tmp_path / "open", "s3cret").chmod(0o644)
    here = {name: tmp_path / value if name.endswith(("_ca", "_file")) else value for name, value in changes.items()}
    with pytest.raises(ConfigError):
        Relay.load(MailSettings(relay_host="relay.example", **here))


def test_every_step_of_the_scripts_is_a_phase_of_the_policy() -> None:
    """What is played here and what reply.py decides are about the same phases."""
    not_played = set(reply.POLICY) - set(STEPS)
    assert not_played == {Phase.CONNECT, Phase.STARTTLS, Phase.TLS, Phase.AUTH, Phase.BODY}  # each has tests above
