"""One attempt after another over real sockets: composed once, the same bytes each time, held when it cannot be made."""

import asyncio
import contextlib
import datetime as dt
import email
import hashlib
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import clock
from gateway.config import DeliverySettings, IssuerSettings, MailSettings
from gateway.delivery import orders, outbox
from gateway.delivery.attempt import MailWorker, forget_messages
from gateway.delivery.breaker import FIRST_SECONDS
from gateway.demo.authority import Authority
from gateway.demo.mailbox import Mailbox as MailboxServer
from gateway.demo.mailbox import Received
from gateway.domain.parties import Mailbox
from gateway.domain.states import Channel, DeliveryState
from gateway.errors import Unavailable
from gateway.keys.load import SigningKey, load_pkcs12
from gateway.mail.relay import Relay
from gateway.mail.reply import Phase
from gateway.pools import ThreadPool
from gateway.store.database import sqlite_url
from tests.cluster import Cluster
from tests.delivery.conftest import Office
from tests.mail.relays import Peer, Script, scripted

WHO = "tok_operator"
SETTINGS = DeliverySettings(retry_minutes=(10,), retry_jitter_percent=0, attempt_seconds=8)
DOMAIN = "000000026.example"  # the foundry's address is there


DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """SQLite, since these tests are about the other side; PostgreSQL for a test that says so."""
    if getattr(request, "param", "sqlite") == "sqlite":
        shutil.copy(request.getfixturevalue("_sqlite_template"), tmp_path / "gateway.db")
        yield sqlite_url(tmp_path / "gateway.db")
        return
    server: Cluster = request.getfixturevalue("postgresql")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    mail = Authority.create(tmp_path_factory.mktemp("authority")).mail
    return load_pkcs12(mail.pkcs12, mail.password_file)


class Sender:
    """The mail worker of an office, and a way to its relay."""

    def __init__(self, office: Office, key: SigningKey) -> None:
        self.office = office
        self.key = key
        self.pool = ThreadPool("mail", 2)

    def worker(self, port: int, *, key: Any = None, delivery: DeliverySettings = SETTINGS, **mail: Any) -> MailWorker:
        settings = MailSettings(relay_port=port, relay_tls="off", **mail)
        relay = Relay("127.0.0.1", port, "gateway.example")
        return MailWorker(
            settings, delivery, IssuerSettings(), self.office.db, self.office.blobs, self.pool, key or self.key,
            b"s" * 32, relay,
        )  # fmt: skip

    async def round(self, port: int, **options: Any) -> int:
        """Claim what is due and wait for what becomes of it."""
        worker = self.worker(port, **options)
        started = await worker.turn()
        await worker.drain(20)
        return started

    def through(self, script: Script, rounds: int = 1, **options: Any) -> list[Peer]:
        """So many attempts of all that is there, over a relay that plays a script."""

        async def scene() -> list[Peer]:
            async with scripted(script) as (port, peers):
                for _ in range(rounds):
                    await self.round(port, **options)
                    self.make_due()
                return peers

        return asyncio.run(scene())

    def make_due(self) -> None:
        for row in self.office.deliveries(channel=Channel.EMAIL):
            if row.state in (DeliveryState.DEFERRED, DeliveryState.UNCERTAIN):
                self.office.set(row, due_at=clock.now() - dt.timedelta(minutes=1))


@pytest.fixture
def sender(office: Office, key: SigningKey) -> Iterator[Sender]:
    made = Sender(office, key)
    yield made
    made.pool.close()


@contextlib.asynccontextmanager
async def sink(directory: Path) -> AsyncIterator[tuple[MailboxServer, int]]:
    """aiosmtpd, keeping what it receives."""
    server = MailboxServer(directory, DOMAIN)
    port = await server.start()
    try:
        yield server, port
    finally:
        await server.stop()


async def behave(peer: Peer) -> None:
    await peer.play()


async def defer(peer: Peer) -> None:
    await peer.play(until=Phase.RCPT)
    await peer.say("451 4.7.1 greylisted")


async def cut_after_the_dot(peer: Peer) -> None:
    await peer.play(until=Phase.DOT)
    await peer.cut()


def test_a_mail_is_composed_stored_sent_and_accepted(office: Office, sender: Sender, tmp_path: Path) -> None:
    """What the sink kept is what the store keeps; the envelope's sender is the delivery's own."""
    mail = office.mail()

    async def scene() -> list[Received]:
        async with sink(tmp_path / "sink") as (server, port):
            assert await sender.round(port) == 1
            return server.messages()

    (received,) = asyncio.run(scene())
    row = office.delivery(mail.id)
    assert (row.state, row.attempts, row.maybe_sent) == (DeliveryState.ACCEPTED, 1, False)
    content = received.path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == row.message_sha256
    assert received.recipients == (f"compta@{DOMAIN}",)
    message = email.message_from_bytes(content)
    assert message["Message-ID"] == f"<{row.message_id}>"
    assert message["From"].endswith("<factures@gateway.example>")
    assert received.sender.endswith("@gateway.example") and received.sender != "factures@gateway.example"
    assert row.message_headers.splitlines()[0] in content.decode("ascii", "replace")
    assert office.events(subject=mail.id) == [
        "delivery.planned", "delivery.attempting", "message.composed", "delivery.accepted",
    ]  # fmt: skip


def test_every_attempt_sends_the_same_bytes(office: Office, sender: Sender) -> None:
    """Deferred, uncertain, accepted: one Message-ID, one envelope sender, one composition."""
    mail = office.mail()
    scripts = [defer, cut_after_the_dot, behave]

    async def one_each(peer: Peer) -> None:
        await scripts[len(office.attempts()) - 1](peer)

    peers = sender.through(one_each, rounds=3)
    contents = [peer.content for peer in peers if peer.content]
    assert len(peers) == 3 and len(contents) == 2 and contents[0] == contents[1]
    assert len({peer.heard[1] for peer in peers}) == 1  # MAIL FROM
    assert [one.outcome for one in office.attempts()] == ["deferred", "uncertain", "accepted"]
    row = office.delivery(mail.id)
    assert (row.state, row.attempts, row.maybe_sent) == (DeliveryState.ACCEPTED, 3, True)
    assert len(office.records("message.composed")) == 1


def test_without_a_relay_it_is_deferred(office: Office, sender: Sender) -> None:
    """Composed already; nothing is lost, and it is due again later."""
    mail = office.mail()

    async def nobody() -> int:
        async with scripted(behave) as (port, _):
            pass
        return port

    async def scene() -> None:
        await sender.round(await nobody())

    asyncio.run(scene())
    row = office.delivery(mail.id)
    assert row.state is DeliveryState.DEFERRED
    assert row.due_at is not None and row.due_at > clock.now() + dt.timedelta(minutes=9)
    assert office.attempts()[0].phase == "connect"


def test_behind_a_relay_in_trouble_one_message_at_a_time_tries_it(
    office: Office, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others spend no attempt, and leave when it is back; each keeps its own place in the queue."""
    office.sealed(4)
    is_down = True
    offset = 0.0
    really = clock.monotonic
    monkeypatch.setattr(clock, "monotonic", lambda: really() + offset)

    async def shut(peer: Peer) -> None:
        if is_down:
            await peer.say("421 4.3.2 not now")
        else:
            await peer.play()

    async def scene() -> list[int]:
        nonlocal is_down, offset
        started = []
        async with scripted(shut) as (port, _):
            worker = sender.worker(port, connections=1)

            async def turn() -> None:
                started.append(await worker.turn())
                await asyncio.gather(*worker._running)

            await turn()
            await turn()
            offset += FIRST_SECONDS
            await turn()
            await turn()
            offset += 2 * FIRST_SECONDS
            is_down = False
            await turn()
            await turn()
            await worker.drain(20)
        return started

    assert asyncio.run(scene()) == [1, 0, 1, 0, 1, 1]
    states = [row.state for row in sorted(office.deliveries(channel=Channel.EMAIL), key=lambda row: row.id)]
    assert states == [DeliveryState.DEFERRED] * 2 + [DeliveryState.ACCEPTED] * 2
    assert [one.number for one in office.attempts()] == [1, 1, 1, 1]


def test_a_refusal_of_one_message_holds_up_no_other(office: Office, sender: Sender) -> None:
    """Greylisting speaks of a recipient; the relay is well."""
    office.sealed(3)

    async def scene() -> list[int]:
        async with scripted(defer) as (port, _):
            worker = sender.worker(port, connections=1)
            started = [await worker.turn() for _ in range(3)]
            await worker.drain(20)
        return started

    assert asyncio.run(scene()) == [1, 1, 1]


def test_a_clock_that_is_set_forward_ends_no_attempt_that_is_under_way(
    office: Office, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease would be over, and the mail would be sent twice."""
    mail = office.mail()
    really = clock.now

    async def scene() -> None:
        reached, go_on = asyncio.Event(), asyncio.Event()

        async def slow(peer: Peer) -> None:
            await peer.play(until=Phase.DOT)
            reached.set()
            await go_on.wait()
            await peer.say("250 2.0.0 ok")

        async with scripted(slow) as (port, _):
            worker = sender.worker(port)
            assert await worker.turn() == 1
            await reached.wait()
            monkeypatch.setattr(clock, "now", lambda: really() + dt.timedelta(hours=1))
            assert await worker.turn() == 0
            assert office.delivery(mail.id).state is DeliveryState.ATTEMPTING
            go_on.set()
            await worker.drain(20)

    asyncio.run(scene())
    assert office.delivery(mail.id).state is DeliveryState.ACCEPTED
    assert "delivery.uncertain" not in office.events()


def test_a_result_is_written_as_soon_as_the_database_is_back(
    office: Office, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that takes within the lease: given up sooner, an accepted message would be sent twice."""
    mail = office.mail()
    slept: list[float] = []
    settle = outbox.settle

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    def away(*arguments: Any) -> DeliveryState:
        if sum(slept) < SETTINGS.lease_seconds / 2:
            raise Unavailable("the database does not answer; try again")
        return settle(*arguments)

    monkeypatch.setattr(outbox, "settle", away)

    async def scene() -> None:
        async with scripted(behave) as (port, _):
            worker = sender.worker(port)
            await worker.turn()
            monkeypatch.setattr("gateway.delivery.attempt.asyncio.sleep", sleep)
            await worker.drain(20)

    asyncio.run(scene())
    assert office.delivery(mail.id).state is DeliveryState.ACCEPTED
    assert max(slept) == 5


async def nul_in_the_reply(peer: Peer) -> None:
    await peer.play(until=Phase.RCPT)
    await peer.send(b"550 5.1.1 no\x00such \xff user \x1b[31m\r\n")


async def long_reply(peer: Peer) -> None:
    await peer.play(until=Phase.RCPT)
    await peer.send(b"".join(b"550-" + b"x" * 400 + b"\r\n" for _ in range(8)) + b"550 end\r\n")


async def long_queue_id(peer: Peer) -> None:
    await peer.play(until=Phase.DOT)
    await peer.say("250 2.0.0 Ok: queued as " + "Q" * 400)


@pytest.mark.parametrize("database_url", DATABASES, indirect=True)
@pytest.mark.parametrize("script", [nul_in_the_reply, long_reply, long_queue_id])
def test_whatever_a_relay_says_can_be_written(office: Office, sender: Sender, script: Script) -> None:
    """A result that no column takes would leave the lease to end, and the message to be sent again and again."""
    mail = office.mail()
    sender.through(script)
    row = office.delivery(mail.id)
    assert row.state in (DeliveryState.FAILED, DeliveryState.DEFERRED, DeliveryState.ACCEPTED)
    assert office.attempts()[0].ended_at is not None


def test_a_relay_that_hangs_ends_at_the_deadline(office: Office, sender: Sender) -> None:
    mail = office.mail()

    async def hang(peer: Peer) -> None:
        await peer.play(until=Phase.RCPT)
        await peer.hang()

    settings = SETTINGS.model_copy(update={"attempt_seconds": 1})
    sender.through(hang, delivery=settings)
    assert office.delivery(mail.id).state is DeliveryState.DEFERRED


def test_a_document_over_the_limit_is_held_not_dropped(office: Office, sender: Sender) -> None:
    """The relay is never asked; an operator sees it."""
    mail = office.mail()
    assert sender.through(behave, max_attachment_megabytes=0.000001) == []
    row = office.delivery(mail.id)
    assert (row.state, row.due_at) == (DeliveryState.HELD, None)
    assert row.state_reason.startswith("size:")
    assert office.attempts()[0].phase == "compose"


def test_missing_bytes_hold_it_until_they_are_back(office: Office, sender: Sender) -> None:
    gone = office.blobs.put(b"%PDF-1.7 gone")
    (document,) = office.sealed(sealed_sha256=gone.sha256, sealed_size=gone.size)
    mail = office.mail(document)
    office.blobs.remove(gone.sha256)
    sender.through(behave)
    assert office.delivery(mail.id).state is DeliveryState.HELD
    office.blobs.put(b"%PDF-1.7 gone")
    office.do(lambda tx: orders.release(tx, mail.id, WHO, "restored"))
    sender.through(behave)
    assert office.delivery(mail.id).state is DeliveryState.ACCEPTED


def test_damaged_bytes_are_not_sent_and_the_others_go_on(office: Office, sender: Sender) -> None:
    """Neither a document that changed in the store, nor a message that was composed before it did."""
    good = office.mail()
    changed = office.blobs.put(b"%PDF-1.7 as it was sealed")
    mail = office.mail(office.sealed(sealed_sha256=changed.sha256, sealed_size=changed.size)[0])
    deferred = office.mail()
    sender.through(defer, connections=1)  # the first of them is composed
    office.blobs.path(changed.sha256).chmod(0o600)
    office.blobs.path(changed.sha256).write_bytes(b"%PDF-1.7 as it was SEALED")
    message = office.blobs.path(office.delivery(good.id).message_sha256 or "")
    message.chmod(0o600)
    message.write_bytes(message.read_bytes().replace(b"From:", b"Fr0m:"))
    (peer,) = sender.through(behave)
    assert [office.delivery(one.id).state for one in (good, mail, deferred)] == [
        DeliveryState.HELD, DeliveryState.HELD, DeliveryState.ACCEPTED,
    ]  # fmt: skip
    assert office.delivery(mail.id).state_reason == "its bytes in the store are damaged"
    assert peer.content


@pytest.mark.parametrize(
    "spoil", [{"address": None}, {"suspended_at": clock.now(), "suspended_reason": "bounces"}, {"confirmed_at": None}]
)
def test_an_address_that_was_spoiled_after_planning_is_held(
    office: Office, sender: Sender, spoil: dict[str, Any]
) -> None:
    """Erased, suspended, no longer confirmed: nothing goes there."""
    mail = office.mail()
    office.set(office.db.read(lambda tx: tx.get_one(Mailbox, mail.destination)), **spoil)
    assert sender.through(behave) == []
    assert office.delivery(mail.id).state is DeliveryState.HELD


class ExpiredKey:
    """A key whose certificate is over."""

    def check(self, now: dt.datetime) -> None:
        raise Unavailable("the certificate has expired", code="no_key")


def test_with_an_expired_certificate_nothing_is_claimed(office: Office, sender: Sender) -> None:
    """No attempt is spent: the worker waits, and goes on when the key is renewed."""
    mail = office.mail()
    with pytest.raises(Unavailable):
        sender.through(behave, key=ExpiredKey())
    row = office.delivery(mail.id)
    assert (row.state, row.attempts) == (DeliveryState.PLANNED, 0)


def test_as_many_are_under_way_as_the_settings_say_and_the_rest_waits(office: Office, sender: Sender) -> None:
    """One that is slow holds up no other."""
    office.sealed(6)
    open_now, most = 0, 0

    async def slow_first(peer: Peer) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        if most == 1 and open_now == 1:
            await peer.play(until=Phase.RCPT)
            await asyncio.sleep(1)
            await peer.say("250 ok")
            await peer.hear(Phase.DATA)
            await peer.say("354 go on")
            await peer.hear(Phase.DOT)
            await peer.say("250 ok")
        else:
            await peer.play()
        open_now -= 1

    async def scene() -> None:
        async with scripted(slow_first) as (port, _):
            worker = sender.worker(port, connections=2)
            while await worker.turn():
                pass
            await worker.drain(20)

    asyncio.run(scene())
    assert {row.state for row in office.deliveries(channel=Channel.EMAIL)} == {DeliveryState.ACCEPTED}
    assert most <= 2


def test_a_drain_lets_what_runs_end_and_starts_nothing(office: Office, sender: Sender) -> None:
    office.sealed(3)

    async def slow(peer: Peer) -> None:
        await peer.play(until=Phase.DOT)
        await asyncio.sleep(0.3)
        await peer.say("250 2.0.0 ok")

    async def scene() -> None:
        async with scripted(slow) as (port, _):
            worker = sender.worker(port, connections=2)
            assert await worker.turn() == 2
            waiting = asyncio.create_task(worker.turn())  # for room
            await asyncio.sleep(0.05)
            await worker.drain(10)
            assert await waiting == 0

    asyncio.run(scene())
    states = sorted(row.state for row in office.deliveries(channel=Channel.EMAIL))
    assert states == [DeliveryState.ACCEPTED, DeliveryState.ACCEPTED, DeliveryState.PLANNED]


def test_what_does_not_end_within_the_grace_is_left_to_its_lease(office: Office, sender: Sender) -> None:
    """The next start finds it attempting, and calls it uncertain."""
    mail = office.mail()

    async def scene() -> None:
        reached = asyncio.Event()

        async def hang(peer: Peer) -> None:
            await peer.play(until=Phase.DOT)
            reached.set()
            await peer.hang()

        async with scripted(hang) as (port, _):
            worker = sender.worker(port)
            await worker.turn()
            await reached.wait()
            await worker.drain(0.05)

    asyncio.run(scene())
    row = office.delivery(mail.id)
    assert row.state is DeliveryState.ATTEMPTING and row.lease_owner is not None


def test_composed_messages_are_forgotten_after_their_time_and_composed_anew_for_a_retry(
    office: Office, sender: Sender
) -> None:
    """Digest, Message-ID and headers stay; a late retry has the same Message-ID."""
    mail = office.mail()

    async def refuse(peer: Peer) -> None:
        await peer.play(until=Phase.RCPT)
        await peer.say("550 5.1.1 no such user")

    sender.through(refuse)
    failed = office.delivery(mail.id)
    assert failed.state is DeliveryState.FAILED and failed.message_sha256 is not None
    assert forget_messages(office.db, office.blobs, keep_days=30) == 0
    office.set(failed, final_at=clock.now() - dt.timedelta(days=31))
    assert forget_messages(office.db, office.blobs, keep_days=30) == 1
    row = office.delivery(mail.id)
    assert (row.message_sha256, row.message_id, row.message_headers) == (
        failed.message_sha256, failed.message_id, failed.message_headers,
    )  # fmt: skip
    office.do(lambda tx: orders.retry(tx, mail.id, WHO))
    (peer,) = sender.through(behave)
    again = office.delivery(mail.id)
    assert (again.state, again.message_forgotten_at) == (DeliveryState.ACCEPTED, None)
    assert f"Message-ID: <{failed.message_id}>".encode() in peer.content


def test_one_that_is_cancelled_while_it_is_composed_is_not_sent(office: Office, sender: Sender) -> None:
    """The lease is no longer ours: nothing may leave."""
    mail = office.mail()
    worker_of = sender.worker

    def losing(port: int, **options: Any) -> MailWorker:
        worker = worker_of(port, **options)
        letter = worker._letter

        def and_lose(*arguments: Any) -> Any:
            office.set(mail, state=DeliveryState.UNCERTAIN, lease_owner=None)
            return letter(*arguments)

        worker._letter = and_lose  # type: ignore[method-assign, assignment]
        return worker

    sender.worker = losing  # type: ignore[method-assign]
    assert sender.through(behave) == []
    row = office.delivery(mail.id)
    assert (row.state, row.message_sha256) == (DeliveryState.UNCERTAIN, None)
