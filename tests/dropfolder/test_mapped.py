"""A client finds its files where the server before had them, and whatever it does there is done here."""

import inspect

import pytest

from gateway.access import Actor, Role
from gateway.dropfolder.mapped import MappedVisit
from gateway.dropfolder.visit import Visit
from gateway.errors import Conflict, Denied, NotFound
from gateway.parties import folders

from .conftest import Time
from .world import World

OPERATOR = Actor("cli:test", "operator", None, Role.ADMIN)


def _map(world: World, at: Time, **pairs: str) -> None:
    wanted = [(before.replace("_", "/"), place) for before, place in pairs.items()]
    folder = world.folder
    world.db.write(lambda tx: folders.set_path_map(tx, OPERATOR, folder.client_id, folder.id, wanted))
    at.pass_(2)


@pytest.fixture
def mapped(world: World, at: Time) -> World:
    world.publish(b"one", b"two")
    _map(world, at, _out_factures="/inbox", _old="/archive")
    return world


def _names(visit: Visit, path: str) -> list[str]:
    return sorted(node.name for node in visit.ask(visit.listing, path).take(100))


def test_every_operation_works_under_the_old_path(mapped: World) -> None:
    """List, look, read, rename both ways, remove: the receipt is the same."""
    visit = mapped.visit()
    one, two = (entry.name for entry in mapped.entries())
    assert _names(visit, "/out/factures") == _names(visit, "/inbox") == sorted([one, two])
    assert visit.stat(f"/out/factures/{one}").size == visit.stat(f"/inbox/{one}").size == 3
    assert len(visit.digest(f"/out/factures/{one}")) == 64
    reading = visit.open(f"/out/factures/{one}")
    assert reading.read(0, 10) == b"one"
    visit.close(reading)
    visit.rename(f"/out/factures/{two}", "/out/factures/later/two.pdf")
    assert _names(visit, "/inbox/later") == ["two.pdf"]
    visit.rename("/inbox/later/two.pdf", f"/out/factures/{two}")
    visit.remove(f"/out/factures/{one}")
    assert _names(visit, "/inbox") == [two]
    assert mapped.entries()[0].received_at is not None
    visit.make_directory("/out/factures/new")
    assert visit.ask(visit.stat, "/inbox/new").is_directory
    visit.remove_directory("/out/factures/new")


def test_the_way_to_a_mapped_folder_exists_and_the_home_does_not_list_it(mapped: World) -> None:
    """A client that walks down gets there; one that mirrors the home takes nothing twice."""
    visit = mapped.visit()
    assert visit.ask(visit.stat, "/out").is_directory
    assert _names(visit, "/out") == ["factures"]
    assert visit.stat("/out/factures").is_directory
    assert _names(visit, "/") == ["archive", "inbox", "manifest", "sandbox"]
    for call in (lambda: visit.make_directory("/out"), lambda: visit.open("/out"),
                 lambda: visit.rename(f"/inbox/{mapped.entries()[0].name}", "/out")):  # fmt: skip
        with pytest.raises(Conflict):
            call()
    for ask in (visit.open, visit.digest):
        with pytest.raises(Conflict, match="this is a folder"):
            ask("/out")
    for path in ("/out", "/out/factures", "/old"):
        with pytest.raises(Denied):
            visit.remove_directory(path)
    visit.rename(f"/inbox/{mapped.entries()[0].name}", "/out/mine.pdf")
    assert _names(visit, "/out") == ["factures", "mine.pdf"]


def test_nothing_is_written_in_the_archive_under_an_old_name(mapped: World) -> None:
    """The place decides, not the name."""
    visit = mapped.visit()
    entry = mapped.entries()[0]
    year, month = entry.month.split("-")
    assert entry.name in _names(visit, f"/old/{year}/{month}")
    with pytest.raises(Denied):
        visit.remove(f"/old/{year}/{month}/{entry.name}")
    with pytest.raises(Denied):
        visit.rename(f"/out/factures/{entry.name}", "/old/x.pdf")
    with pytest.raises(Denied):
        visit.make_directory("/old/x")


def test_without_a_map_the_old_path_is_not_there(world: World, at: Time) -> None:
    """Unmapped homes are as before; taking the map away takes the paths away."""
    world.publish(b"one")
    _map(world, at, _out="/inbox")
    visit = world.visit()
    assert _names(visit, "/out") == _names(visit, "/inbox")
    _map(world, at)
    with pytest.raises(NotFound):
        visit.ask(visit.stat, "/out")


def test_a_map_never_hides_what_the_client_keeps(world: World, at: Time) -> None:
    """Files would be out of its reach, and a return by itself would be a riddle."""
    world.publish(b"one", b"two")
    at.pass_(2)
    visit = world.visit()
    visit.ask(visit.listing, "/inbox")
    first, second = (entry.name for entry in world.entries())
    visit.rename(f"/inbox/{first}", "/out/mine.pdf")
    visit.rename(f"/inbox/{second}", "/old")
    for before in ("_out", "_OUT", "_old_x"):
        with pytest.raises(Conflict):
            _map(world, at, **{before: "/inbox"})
    _map(world, at, _out_factures="/inbox")


def test_every_call_with_a_path_is_mapped() -> None:
    """One that is forgotten would not find what the others find."""
    calls = {
        name
        for name, call in inspect.getmembers(Visit, inspect.isfunction)
        if not name.startswith("_") and {"path", "target"} & set(inspect.signature(call).parameters) and name != "ask"
    }
    assert calls == {name for name in vars(MappedVisit) if not name.startswith("_")}


def test_an_operator_sees_what_a_session_asked_for_last(world: World, at: Time) -> None:
    """Of its own sessions a process knows it; under the gateway's own names."""
    world.publish(b"one")
    _map(world, at, _out="/inbox")
    visit, name = world.visit(), world.entries()[0].name
    session = visit.session.id
    assert (world.folders.last_act(session), world.folders.last_act("ses_1")) == (None, None)
    for act, said in (
        (lambda: _names(visit, "/out"), "list /inbox"),
        (lambda: visit.close(visit.open(f"/out/{name}")), f"read /inbox/{name}"),
        (lambda: visit.rename(f"/out/{name}", "/out/a.pdf"), f"rename /inbox/{name}"),
        (lambda: visit.create("/sandbox/b.pdf").release(), "write /sandbox/b.pdf"),
        (lambda: visit.remove("/out/a.pdf"), "remove /inbox/a.pdf"),
    ):
        act()
        assert world.folders.last_act(session) == said
