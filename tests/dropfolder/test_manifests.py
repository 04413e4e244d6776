"""Nothing is missing: one signed manifest a day, whose ranges chain without gap or overlap whatever the clocks do."""

import asyncio
import datetime as dt
import hashlib
import itertools
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from structlog.testing import capture_logs

from gateway import clock
from gateway.delivery import orders
from gateway.domain.folders import Folder
from gateway.dossier import manifest_chain
from gateway.dropfolder.manifests import Behind, ManifestMaker, behind
from gateway.errors import Conflict, Denied, NotFound, Unavailable
from gateway.keys.trust import Trust
from gateway.pools import ThreadPool, WorkerDied
from gateway.sealing import process
from tests.dropfolder.conftest import Time
from tests.dropfolder.world import PARIS, World, get, names
from tests.keys.authority import Authority
from tests.peers import program, requires

T = TypeVar("T")
DAY = 24 * 3600


class Here:
    """Runs in this process what the sealing workers would."""

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.to_thread(call, *arguments)


class DyingOnce(Here):
    """The first call ends its worker."""

    calls = 0

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        self.calls += 1
        if self.calls == 1:
            raise WorkerDied("a worker process ended")
        return await super().run(call, *arguments)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A key to sign with in this process; the file of its root."""
    authority = Authority()
    content, password = authority.write_pkcs12(tmp_path, authority.signing_key())
    root = authority.write_root(tmp_path)
    process.prepare(process.SealSetup(content, password, (root,), (), "Facture originale", 100, "B-B"))
    return root


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    pool = ThreadPool("work", 2, 100)
    yield pool
    pool.close()


@pytest.fixture
def maker(world: World, pool: ThreadPool, root: Path) -> ManifestMaker:
    return ManifestMaker(world.db, world.blobs, PARIS, "Enerdis", Here(), pool)  # type: ignore[arg-type]


def make_all(maker: ManifestMaker) -> int:
    """Turns until nothing is due; how many manifests came of it."""
    count = 0
    while made := asyncio.run(maker.turn()):
        count += made
    return count


def manifests(world: World) -> list[dict[str, Any]]:
    visit = world.visit()
    found = [name for name in names(visit, "/manifest") if name.endswith(".json")]
    return [json.loads(get(visit, f"/manifest/{name}")) for name in found]


def test_each_day_has_one_also_an_empty_one_and_they_chain(world: World, maker: ManifestMaker, at: Time) -> None:
    """The daemon was down for days: every day is made up, in order, and names the one before by its digest."""
    world.publish(b"one", b"two")
    at.pass_(2 * DAY)
    world.publish(b"three")
    at.pass_(2 * DAY)
    assert make_all(maker) == 4
    found, visit = manifests(world), world.visit()
    assert [(one["first"], one["last"], one["count"]) for one in found] == [(1, 2, 2), (3, 2, 0), (3, 3, 1), (4, 3, 0)]
    assert [event["sequence"] for one in found for event in one["events"]] == [1, 2, 3]
    for before, after in itertools.pairwise(found):
        name = f"manifest-{before['day']}.json"
        digest = hashlib.sha256(get(visit, f"/manifest/{name}")).hexdigest()
        assert after["previous"] == {"name": name, "sha256": digest}
    assert found[0]["previous"] is None
    (entry,) = [entry for entry in world.entries() if entry.sequence == 3]
    (event,) = found[2]["events"]
    assert (event["name"], event["sha256"], event["size"]) == (entry.name, entry.sha256, entry.size)
    assert make_all(maker) == 0


@requires("openssl")
def test_a_stranger_checks_one_with_openssl(
    world: World, maker: ManifestMaker, at: Time, tmp_path: Path, root: Path
) -> None:
    """`openssl cms -verify` as the module says it; a changed byte is found."""
    world.publish(b"one")
    at.pass_(DAY)
    make_all(maker)
    visit = world.visit()
    for name in names(visit, "/manifest"):
        (tmp_path / name).write_bytes(get(visit, f"/manifest/{name}"))
    (content,) = tmp_path.glob("manifest-*.json")
    command = [program("openssl"), "cms", "-verify", "-binary", "-inform", "DER", "-in", f"{content}.p7s", "-content"]
    rest = ["-CAfile", str(root), "-purpose", "any", "-out", "/dev/null"]
    subprocess.run([*command, str(content), *rest], check=True, capture_output=True)
    content.write_bytes(content.read_bytes().replace(b'"count":1', b'"count":2'))
    assert subprocess.run([*command, str(content), *rest], check=False, capture_output=True).returncode != 0


def test_what_a_client_pulls_is_proven_offline(
    world: World, maker: ManifestMaker, at: Time, tmp_path: Path, root: Path
) -> None:
    """Manifests and documents as files: `gateway manifest verify` has nothing else."""
    (delivery, _) = world.publish(b"one", b"two")
    at.pass_(DAY)
    world.db.write(lambda tx: orders.withdraw(tx, world.delivery(delivery).document_id, "op", "wrong recipient"))
    at.pass_(2 * DAY)
    assert make_all(maker) == 3
    visit = world.visit()
    for folder in ("/manifest", "/inbox"):
        for name in names(visit, folder):
            (tmp_path / name).write_bytes(get(visit, f"{folder}/{name}"))
    proof = manifest_chain.verify(manifest_chain.gather([tmp_path]), Trust.load((root,)), tmp_path)
    assert proof.holds and (proof.runs[0].manifests, proof.runs[0].last, proof.documents) == (3, 3, 1)


def test_what_the_disk_damaged_is_not_served(world: World, maker: ManifestMaker, at: Time) -> None:
    """A proof of other bytes would be a proof against the issuer; the other files are served on."""
    at.pass_(DAY)
    make_all(maker)
    visit = world.visit()
    (name, signature) = [one for one in names(visit, "/manifest") if one.startswith("manifest-")]
    path = world.blobs.path(visit.ask(visit.digest, f"/manifest/{name}"))
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b'"count":0', b'"count":1'))
    with capture_logs() as logs, pytest.raises(Unavailable):
        visit.ask(visit.open, f"/manifest/{name}")
    assert [(one["event"], one["file"]) for one in logs] == [("manifest.blob_damaged", name)]
    assert get(visit, f"/manifest/{signature}")


@pytest.mark.usefixtures("root")
def test_a_worker_that_dies_delays_its_own_manifest_alone(world: World, pool: ThreadPool, at: Time) -> None:
    """The other folders have theirs, and the daemon goes on; the next turn makes it."""
    other = World(world.db, world.blobs, user="other")
    maker = ManifestMaker(world.db, world.blobs, PARIS, "Enerdis", DyingOnce(), pool)  # type: ignore[arg-type]
    at.pass_(DAY)
    assert asyncio.run(maker.turn()) == 1
    assert sorted(len(manifests(one)) for one in (world, other)) == [0, 1]
    assert make_all(maker) == 1


def test_an_account_of_the_billing_system_has_none(world: World, maker: ManifestMaker, at: Time) -> None:
    """Nothing is published to it."""
    world.set(Folder, world.folder.id, is_intake=True)
    at.pass_(DAY)
    assert make_all(maker) == 0


def test_a_clock_that_is_set_back_makes_no_day_again(world: World, maker: ManifestMaker, at: Time) -> None:
    """What is published with an instant of a day that has its manifest stands in the next one."""
    world.publish(b"one")
    at.pass_(DAY)
    assert make_all(maker) == 1
    at.step(-DAY)
    world.publish(b"two")
    assert make_all(maker) == 0
    at.step(2 * DAY)
    assert make_all(maker) == 1
    assert [(one["first"], one["last"]) for one in manifests(world)] == [(1, 1), (2, 2)]


def test_a_second_gateway_makes_no_second_one(world: World, maker: ManifestMaker, at: Time, pool: ThreadPool) -> None:
    """Both find the day due; the one that is later leaves the first's as it is, and none of its own bytes."""
    world.publish(b"one")
    at.pass_(DAY)
    other = ManifestMaker(world.db, world.blobs, PARIS, "Another", Here(), pool)  # type: ignore[arg-type]
    due = world.db.read(maker._due)
    assert [asyncio.run(maker._make(*one)) for one in due] == [1]
    content = other._blobs.scratch()
    content.write_bytes(b"{}")
    signature = other._blobs.scratch()
    signature.write_bytes(b"signature")
    day = {"folder": world.folder.id, "day": str(due[0][1]), "first": 1, "last": 1}
    assert other._keep(day, content, signature) == 0
    with pytest.raises(NotFound):
        world.blobs.open(hashlib.sha256(b"{}").hexdigest())
    assert [one["issuer"] for one in manifests(world)] == ["Enerdis"]


def test_without_a_key_manifests_wait_and_are_made_up(world: World, maker: ManifestMaker, at: Time, root: Path) -> None:
    good = process._worker.setup if process._worker else None
    assert good is not None
    process.prepare(process.SealSetup(None, None, (root,), (), "", 100, "B-B"))
    at.pass_(2 * DAY)
    with pytest.raises(Unavailable):
        asyncio.run(maker.turn())
    assert manifests(world) == []
    process.prepare(good)
    assert make_all(maker) == 2


def test_that_manifests_stay_behind_is_an_alert_once_an_hour(
    world: World, maker: ManifestMaker, at: Time, root: Path
) -> None:
    """What is made up at once is none; without a key somebody must hear of it, with the first day that is lacking."""
    good = process._worker.setup if process._worker else None
    assert good is not None
    first = clock.day_of(clock.now(), PARIS)
    at.pass_(DAY)
    assert make_all(maker) == 1
    process.prepare(process.SealSetup(None, None, (root,), (), "", 100, "B-B"))
    at.pass_(DAY + 7200)
    with capture_logs() as logs:
        for _ in range(60):
            with pytest.raises(Unavailable):
                asyncio.run(maker.turn())
            at.pass_(120)
        process.prepare(good)
        make_all(maker)
        asyncio.run(maker.turn())
    told = [one for one in logs if one["event"] == "manifest.behind"]
    assert [(one["folders"], one["first_day"]) for one in told] == [(1, str(first + dt.timedelta(days=1)))] * 2
    assert world.db.read(lambda tx: behind(tx, PARIS)) == Behind(0, None)


def test_nothing_in_it_can_be_changed_and_a_read_is_no_receipt(world: World, maker: ManifestMaker, at: Time) -> None:
    """As in the archive; the size that a listing says is the file's; the inbox never holds one."""
    world.publish(b"one")
    at.pass_(DAY)
    make_all(maker)
    visit = world.visit()
    for node in visit.ask(visit.listing, "/manifest").take(99):
        path = f"/manifest/{node.name}"
        assert visit.stat(path) == node and len(get(visit, path)) == node.size
        for act in (visit.remove, visit.make_directory, lambda p: visit.rename(p, "/inbox/x")):
            with pytest.raises((Denied, Conflict)):
                act(path)
    with pytest.raises(NotFound):
        visit.remove("/manifest/other")
    with pytest.raises(Denied):
        visit.rename(f"/inbox/{world.entry().name}", "/manifest/x")
    assert len(names(visit)) == 1 and world.events("entry.") == []
    assert world.entry().opened_at is None
