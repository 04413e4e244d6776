"""kill -9 at any moment loses no document, repeats none, and leaves no state that the rules do not know."""

import asyncio
import email
import hashlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

from gateway import clock
from gateway.demo import invoices
from gateway.domain.states import Channel, DeliveryState, DocumentState, Nature
from gateway.keys.load import load_pkcs12
from gateway.keys.trust import Trust
from gateway.sealing.verify import verify
from tests.crash.checker import State, check_state
from tests.crash.station import SUBSCRIBED, Station, Template, living, make_template, today, wait_until_gone

ROUNDS = int(os.environ.get("ROUNDS", "3"))
IS_SHORT = ROUNDS <= 3
KILLS = 2 if IS_SHORT else 4  # in one round, at most
SETTLED_WITHIN = 60.0  # seconds, for one start of the daemon


@dataclass(frozen=True)
class Offer:
    """A file for the spool, and what must become of it: accepted, duplicate, again, quarantined or refused."""

    name: str
    content: bytes
    number: str
    fate: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return make_template(tmp_path_factory.mktemp("crash"))


@pytest.fixture(scope="session")
def offers() -> list[Offer]:
    """200 invoices (60 in a short run), one of them twice, another with other bytes, and a file that is none."""
    made = []
    for facts, content in invoices.series(60 if IS_SHORT else 200, today()):
        fate = "accepted" if facts.contract.number in SUBSCRIBED else "duplicate"
        made.append(Offer(f"{facts.number}.pdf", content, facts.number, fate))
    (facts, other), *_ = invoices.series(1, today(), first=1, contracts=invoices.CONTRACTS[1:2])
    middle = len(made) // 2
    made.insert(middle, Offer("other-bytes.pdf", other, facts.number, "quarantined"))
    made.insert(middle, Offer("repeated.pdf", made[1].content, made[1].number, "again"))
    made.insert(middle, Offer("no-document.pdf", b"This is no PDF.", "", "refused"))
    return made


@pytest.mark.soak
@pytest.mark.timeout(120 * ROUNDS)
def test_a_daemon_killed_at_any_fsync_or_commit_loses_nothing_and_repeats_nothing(
    rounds: int, template: Template, offers: list[Offer], tmp_path: Path
) -> None:
    """Each step keeps the bytes, then commits row, record and next step together: any of them can be the last."""
    for number in range(rounds):
        station = Station(tmp_path / str(number), template)
        for order, offer in enumerate(offers, 1):
            station.offer(offer.name, offer.content, order)
        with station.mail():
            _kill_again_and_again(station, random.Random(number), offers)
            _finish(station, offers)


def _kill_again_and_again(station: Station, chance: random.Random, offers: list[Offer]) -> None:
    for _ in range(KILLS):
        kind, when = chance.choice(("fsync", "commit", "either")), chance.choice(("before", "after"))
        at = chance.randint(1, len(offers) * (2 if kind == "commit" else 3) // 2)
        where = f"{kind} {at}, {when} it"
        with station.start(kind, at, when) as daemon:
            is_done = _wait(station, daemon)
            daemon.terminate()  # if it had come to its end before it came to `at`
            status = daemon.wait(30)
        left = wait_until_gone(daemon.pid)
        assert not left, f"killed at {where}: {len(left)} of its processes live on"
        state, wrong = check_state(station.state)
        wrong += _lost(station, state, offers) + _wrong_mail(station, state)
        assert not wrong, f"killed at {where}: {wrong}"
        if is_done:
            return
        assert status == -signal.SIGKILL, f"it ended by itself, with {status}"


def _wait(station: Station, daemon: "subprocess.Popen[str]") -> bool:
    """Until the daemon has ended (False) or has nothing left to do (True)."""
    deadline = time.monotonic() + SETTLED_WITHIN
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            return False
        if not any((station.spool / "new").iterdir()) and station.is_settled():
            return True
        time.sleep(0.2)
    raise AssertionError(f"not done within {SETTLED_WITHIN:g} s: {_open_ends(State.of(station.state))}")


def _open_ends(state: State) -> Counter[str]:
    documents = Counter(f"document {document.state}" for document in state.documents.values())
    return documents + Counter(f"{delivery.channel} {delivery.state}" for delivery in state.deliveries.values())


def _lost(station: Station, state: State, offers: list[Offer]) -> list[str]:
    """Files that lie in no folder of the spool and have no row either."""
    kept = {document.received_sha256 for document in state.documents.values()}
    folders = ("new", "refused", "quarantined")
    present = {path.name for folder in folders for path in (station.spool / folder).glob("*.pdf")}
    return [f"{offer.name} is lost" for offer in offers if offer.name not in present and offer.sha256 not in kept]


def _wrong_mail(station: Station, state: State) -> list[str]:
    """What the mailbox server holds beside what the rows say of it."""
    wrong = []
    arrived: dict[str, list[str]] = {}
    for message in station.mailbox.messages():
        content = message.path.read_bytes()
        message_id = email.message_from_bytes(content)["Message-ID"].strip("<>")
        arrived.setdefault(message_id, []).append(hashlib.sha256(content).hexdigest())
    sent = {d.message_id: d for d in state.deliveries.values() if d.message_id}
    for message_id, digests in arrived.items():
        delivery = sent.get(message_id)
        if delivery is None:
            wrong.append(f"{message_id} arrived and belongs to no delivery")
        elif set(digests) != {delivery.message_sha256}:
            wrong.append(f"{delivery.id} arrived as other bytes than were kept")
        elif len(digests) > delivery.attempts or (len(digests) > 1 and not delivery.maybe_sent):
            wrong.append(f"{delivery.id} arrived {len(digests)} times in {delivery.attempts} attempts")
    accepted = {d.message_id for d in sent.values() if d.state is DeliveryState.ACCEPTED}
    return wrong + [f"{message_id} was accepted and did not arrive" for message_id in accepted - arrived.keys()]


def _finish(station: Station, offers: list[Offer]) -> None:
    """Start once more, let all come to its end, look at it as the client does, and check the end."""
    with station.start() as daemon:
        assert daemon.stdout is not None
        host, port = daemon.stdout.readline().split()
        assert _wait(station, daemon), "the daemon ended by itself"
        entries = State.of(station.state).entries.values()
        expected = Counter(f"{entry.folder_id} {entry.name}" for entry in entries)
        assert asyncio.run(_listed(station, host, int(port), expected)) == expected
        daemon.terminate()
        assert daemon.wait(30) == 0
    assert not wait_until_gone(daemon.pid)
    state, wrong = check_state(station.state)
    assert not wrong + _lost(station, state, offers) + _wrong_mail(station, state)
    _check_fates(station, state, offers)
    _check_seals(station, state)
    assert not [*(station.state / "blobs" / "scratch").iterdir()]


async def _listed(station: Station, host: str, port: int, expected: "Counter[str]") -> "Counter[str]":
    """What all clients see in their inboxes; an entry is listed once its second is over."""
    seen: Counter[str] = Counter()
    folders = {folder.user_name: folder.id for folder in State.of(station.state).folders}
    deadline = time.monotonic() + 10
    while seen != expected and time.monotonic() < deadline:
        seen = Counter()
        for user, key in station.template.users.items():
            options = {"username": user, "client_keys": [str(key)], "known_hosts": None, "agent_path": None}
            async with (
                asyncssh.connect(host, port, config=None, **options) as connection,
                connection.start_sftp_client() as client,
            ):
                names = [str(name) for name in await client.listdir("inbox")]
                seen.update(f"{folders[user]} {name}" for name in names if not name.startswith("."))
        await asyncio.sleep(0.2)
    return seen


def _check_fates(station: Station, state: State, offers: list[Offer]) -> None:
    """Every file was dealt with once, as it deserves."""
    assert not list((station.spool / "new").iterdir())
    for folder in ("refused", "quarantined"):
        expected = {f"{o.name}{end}" for o in offers if o.fate == folder for end in ("", ".reason.json")}
        assert {path.name for path in (station.spool / folder).iterdir()} == expected
    documents = Counter((d.received_sha256, d.state, d.nature) for d in state.documents.values())
    ends = {
        "accepted": (DocumentState.SEALED, Nature.ORIGINAL),
        "duplicate": (DocumentState.RECEIVED, Nature.DUPLICATE),
        "quarantined": (DocumentState.QUARANTINED, None),
    }
    assert documents == Counter((offer.sha256, *ends[offer.fate]) for offer in offers if offer.fate in ends)
    assert any(record.event == "document.refused" for record in state.records)
    for delivery in state.deliveries.values():
        is_mail = delivery.channel is Channel.EMAIL
        assert delivery.state is (DeliveryState.ACCEPTED if is_mail else DeliveryState.PUBLISHED)


def _check_seals(station: Station, state: State) -> None:
    authority = station.template.authority
    key = load_pkcs12(authority.seal.pkcs12, authority.seal.password_file)
    trust, chain = Trust.load((authority.root,)), (key.certificate, *key.chain)
    objects = station.state / "blobs" / "objects"
    for document_id, seal in state.seals.items():
        sealed, received = (
            (objects / digest[:2] / digest).read_bytes()
            for digest in (seal.sha256, state.documents[document_id].received_sha256)
        )
        verify(sealed, received, chain, trust, clock.now())


def test_no_worker_outlives_a_daemon_that_was_killed(template: Template, offers: list[Offer], tmp_path: Path) -> None:
    """A sealing worker has the key in its memory and would wait for work for ever."""
    station = Station(tmp_path / "station", template)
    for order, offer in enumerate(offers[:30], 1):
        station.offer(offer.name, offer.content, order)
    with station.mail(), station.start() as daemon:
        assert daemon.stdout is not None
        daemon.stdout.readline()
        deadline = time.monotonic() + 30
        while not State.of(station.state).seals and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(living(daemon.pid)) >= 5, "the daemon, its fork server, two readers, and a sealer at least"
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait(10)
        assert not wait_until_gone(daemon.pid)
