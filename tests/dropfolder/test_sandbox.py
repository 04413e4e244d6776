"""What a client keeps under sandbox/: whole files only, within limits, and nobody else's."""

import datetime as dt
import itertools
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import clock
from gateway.domain.sandbox import SandboxLeftover
from gateway.dropfolder.uploads import Quota, Upload
from gateway.dropfolder.visit import Visit
from gateway.errors import Conflict, Denied, NotFound, Refused, TooLarge, Unavailable
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database, Transaction
from tests.dropfolder.conftest import Time
from tests.dropfolder.world import World, get, names


def put(visit: Visit, path: str, content: bytes) -> None:
    """Write a file in one go."""
    upload = visit.create(path)
    upload.write(0, content)
    visit.close(upload)


def blobs_kept(blobs: LocalBlobs) -> int:
    """Files in the store, scratch files included."""
    return sum(path.is_file() for path in blobs._objects.parent.rglob("*"))


def test_what_was_written_and_closed_is_there_for_every_session_of_its_client_only(
    world: World, database: Database, blobs: LocalBlobs
) -> None:
    """A test area is as private as the inbox."""
    other = World(database, blobs, user="other")
    put(world.visit(), "/sandbox/a.txt", b"hello")
    assert names(world.visit(), "/sandbox") == ["a.txt"]
    assert get(world.visit(), "/sandbox/a.txt") == b"hello"
    assert names(other.visit(), "/sandbox") == []
    with pytest.raises(NotFound):
        other.visit().open("/sandbox/a.txt")
    assert "sandbox" in names(world.visit(), "/")


def test_reading_and_removing_there_is_recorded_as_nothing(world: World) -> None:
    """A rehearsal is no receipt."""
    put(world.visit(), "/sandbox/a.txt", b"hello")
    before = world.events()
    visit = world.visit()
    get(visit, "/sandbox/a.txt")
    visit.remove("/sandbox/a.txt")
    assert world.events() == before
    assert world.entries() == []


def test_the_bytes_of_a_removed_file_leave_the_store_and_those_of_a_document_stay(
    world: World, blobs: LocalBlobs
) -> None:
    """A client may test with its own invoices: removing the test must not remove the invoice."""
    world.publish(b"an invoice")
    kept = blobs_kept(blobs)
    visit = world.visit()
    put(visit, "/sandbox/a.pdf", b"an invoice")
    assert blobs_kept(blobs) == kept + 1
    visit.remove("/sandbox/a.pdf")
    assert blobs_kept(blobs) == kept
    with blobs.path(world.entry().sha256).open("rb") as file:
        assert file.read() == b"an invoice"


def test_a_file_of_the_same_name_replaces_the_one_that_is_there(world: World, blobs: LocalBlobs) -> None:
    """Whoever tries again uploads the same name again."""
    visit = world.visit()
    put(visit, "/sandbox/a.txt", b"one")
    kept = blobs_kept(blobs)
    put(visit, "/sandbox/a.txt", b"another")
    assert get(visit, "/sandbox/a.txt") == b"another"
    assert blobs_kept(blobs) == kept
    with pytest.raises(Conflict):
        visit.create("/sandbox/a.txt", is_new=True)
    with pytest.raises(Conflict):
        visit.create("/sandbox/A.TXT")


def test_an_upload_that_is_never_closed_leaves_nothing(world: World, blobs: LocalBlobs) -> None:
    """Closing is not completing, but without it there is no file."""
    visit = world.visit()
    kept = blobs_kept(blobs)
    upload = visit.create("/sandbox/a.txt")
    upload.write(0, b"half")
    assert names(visit, "/sandbox") == ["a.txt"]  # sshfs looks at what it is writing
    assert names(world.visit(), "/sandbox") == []
    visit.abandon([upload])
    assert names(visit, "/sandbox") == []
    assert blobs_kept(blobs) == kept


@pytest.mark.parametrize("writes", [[(1, b"x")], [(0, b"a"), (2, b"c")]])
def test_a_file_with_a_hole_is_refused_when_it_is_closed(world: World, writes: list[tuple[int, bytes]]) -> None:
    """Zeros that nobody wrote would be taken for the file's content."""
    visit = world.visit()
    upload = visit.create("/sandbox/a.txt")
    for offset, data in writes:
        upload.write(offset, data)
    with pytest.raises(Refused, match="holes"):
        visit.close(upload)
    assert names(visit, "/sandbox") == []


def test_resuming_a_file_is_refused_and_the_file_stays(world: World) -> None:
    """`reput` goes on at the end of what it believes to be there: a new file would have a hole."""
    visit = world.visit()
    put(visit, "/sandbox/a.txt", b"hello")
    upload = visit.create("/sandbox/a.txt", truncates=False)
    with pytest.raises(Refused, match="again from its beginning"):
        upload.write(5, b" world")
    with pytest.raises(Refused):
        visit.close(upload)
    assert get(visit, "/sandbox/a.txt") == b"hello"


@settings(max_examples=60, deadline=None)
@given(data=st.data(), content=st.binary(min_size=1, max_size=300))
def test_any_order_of_writes_makes_the_file_and_a_missing_one_makes_none(
    data: st.DataObject, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Clients pipeline, repeat and overlap WRITEs; the file is what they wrote, or refused."""
    cuts = sorted({0, len(content), *data.draw(st.lists(st.integers(0, len(content)), max_size=8))})
    pieces = list(itertools.pairwise(cuts))
    extra = data.draw(st.lists(st.sampled_from(pieces), max_size=3))
    order = data.draw(st.permutations(pieces + extra))
    missing = data.draw(st.none() | st.sampled_from(pieces))
    kept: list[bytes] = []
    quota = Quota(10_000, lambda: None)
    upload = Upload(
        "/sandbox/x", tmp_path_factory.mktemp("u") / "x", quota, "me", 0, lambda u: kept.append(u.read(0, 10**6)),
        head=b"head",
    )  # fmt: skip
    for start, end in order:
        if (start, end) != missing:
            upload.write(start, content[start:end])
    if missing is None:
        upload.finish()
        assert kept == [content]
    elif missing[1] == len(content):
        upload.finish()  # nothing tells that more was to come
        assert kept == [content[: missing[0]]]
    else:
        with pytest.raises(Refused):
            upload.finish()
    assert quota.left("me", 0) == 10_000


def test_a_size_that_was_announced_must_be_reached(world: World) -> None:
    """scp sets the size at the end; a client that sets it at the beginning and is cut has written no file."""
    visit = world.visit()
    upload = visit.create("/sandbox/a.txt")
    upload.write(0, b"hello world")
    upload.set_size(5)
    visit.close(upload)
    assert get(visit, "/sandbox/a.txt") == b"hello"
    upload = visit.create("/sandbox/b.txt")
    upload.set_size(5)
    upload.write(0, b"hell")
    with pytest.raises(Refused):
        visit.close(upload)


def test_a_client_keeps_no_more_than_its_quota_over_all_its_folders(world: World) -> None:
    """A hundred sessions that write at once are bounded together."""
    world.folders._sandboxes.quota.limit = 10
    visit, other = world.visit(), world.visit()
    put(visit, "/sandbox/a", b"123456")
    one, two = visit.create("/sandbox/b"), other.create("/sandbox/c")
    one.write(0, b"123")
    with pytest.raises(Refused, match="MB at most"):
        two.write(0, b"12")
    other.abandon([two])
    assert visit.space("/sandbox") == (10, 1)
    visit.close(one)
    assert visit.space("/sandbox") == (10, 1)
    put(visit, "/sandbox/a", b"1234567")  # in place of six
    visit.remove("/sandbox/a")
    assert visit.space("/sandbox") == (10, 7)
    with pytest.raises(Refused):
        visit.create("/sandbox/d").write(2**63, b"x")


def test_files_and_folders_are_counted(database: Database, blobs: LocalBlobs, at: Time) -> None:
    """What a stranger can grow has a limit."""
    world = World(database, blobs, sandbox_files=2, directories=2)
    visit = world.visit()
    put(visit, "/sandbox/a", b"")
    put(visit, "/sandbox/b", b"")
    with pytest.raises(Refused, match="2 files"):
        visit.create("/sandbox/c")
    put(visit, "/sandbox/b", b"again")
    visit.make_directory("/sandbox/x")
    visit.make_directory("/sandbox/x/y")
    with pytest.raises(Refused, match="2 folders"):
        visit.make_directory("/sandbox/z")


def test_folders_can_be_made_renamed_and_removed(world: World) -> None:
    """An integrator rehearses what it will do in production, `mv` and `mkdir` included."""
    visit = world.visit()
    visit.make_directory("/sandbox/in")
    put(visit, "/sandbox/in/a.txt", b"a")
    with pytest.raises(Conflict, match="not empty"):
        visit.remove_directory("/sandbox/in")
    visit.rename("/sandbox/in", "/sandbox/done")
    assert names(visit, "/sandbox/done") == ["a.txt"]
    visit.rename("/sandbox/done/a.txt", "/sandbox/b.txt")
    put(visit, "/sandbox/c.txt", b"c")
    with pytest.raises(Conflict):
        visit.rename("/sandbox/b.txt", "/sandbox/c.txt")
    visit.rename("/sandbox/b.txt", "/sandbox/B.txt")
    visit.remove_directory("/sandbox/done")
    assert names(visit, "/sandbox") == ["B.txt", "c.txt"]


def test_a_name_in_other_letters_has_a_folder_too(world: World) -> None:
    """Moved below a folder that is not there it would be in no listing, and could not be removed by any."""
    visit = world.visit()
    visit.make_directory("/sandbox/Done")
    put(visit, "/sandbox/Done/a.txt", b"a")
    with pytest.raises(NotFound):
        visit.rename("/sandbox/Done/a.txt", "/sandbox/done/a.txt")
    visit.rename("/sandbox/Done", "/sandbox/done")
    assert names(visit, "/sandbox/done") == ["a.txt"]


def test_what_is_being_written_is_no_folder(world: World) -> None:
    """The session that writes it sees it; what it cannot do with it yet is said as it is."""
    visit = world.visit()
    visit.create("/sandbox/a.txt").write(0, b"half")
    for ask in (visit.open, visit.digest):
        with pytest.raises(Conflict, match="being written"):
            ask("/sandbox/a.txt")


def test_bytes_stay_while_nobody_knows_whether_their_row_is_there(
    world: World, blobs: LocalBlobs, at: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A COMMIT whose answer was lost: removed at once they would leave a name that can never be read."""
    kept, visit, write = blobs_kept(blobs), world.visit(), world.db.write

    def silent(step: Callable[[Transaction], object]) -> None:
        write(step)
        raise Unavailable("the database does not answer; try again")

    def away(_step: object) -> None:
        raise Unavailable("the database does not answer; try again")

    for answer, name in ((silent, "a.txt"), (away, "b.txt")):
        upload = visit.create(f"/sandbox/{name}")
        upload.write(0, b"hello")
        with monkeypatch.context() as patch:
            patch.setattr(world.db, "write", answer)
            with pytest.raises(Unavailable):
                visit.close(upload)
    assert names(world.visit(), "/sandbox") == ["a.txt"]
    assert get(world.visit(), "/sandbox/a.txt") == b"hello"
    at.pass_(3600)
    world.folders.expire_uploads(clock.now())
    assert get(world.visit(), "/sandbox/a.txt") == b"hello"
    assert blobs_kept(blobs) == kept + 1, "of what has no row the bytes go"


@pytest.mark.parametrize("path", ["/sandbox/none/a", "/sandbox/a.txt/b", "/inbox/a", "/archive/a", "/a", "/sandbox"])
def test_nothing_is_written_elsewhere(world: World, path: str) -> None:
    """Uploads go into sandbox/ only."""
    visit = world.visit()
    put(visit, "/sandbox/a.txt", b"a")
    with pytest.raises((Denied, NotFound, Conflict)):
        visit.create(path)
    with pytest.raises(Denied):
        visit.rename("/sandbox/a.txt", "/inbox/a.txt")


def test_names_follow_the_rules_of_every_name_that_a_client_makes(world: World) -> None:
    """A control character in a name is shown to people."""
    with pytest.raises(Refused):
        world.visit().create("/sandbox/a\u202eb")
    with pytest.raises(Refused):
        world.visit().create("/sandbox/" + "x" * 300)


def test_a_file_goes_after_some_days_with_its_bytes(world: World, blobs: LocalBlobs, at: Time) -> None:
    """A test area is not an archive."""
    kept = blobs_kept(blobs)
    put(world.visit(), "/sandbox/a.txt", b"a")
    at.pass_(29 * 86400)
    assert world.folders.expire_uploads(clock.now()) == 0
    at.pass_(2 * 86400)
    assert world.folders.expire_uploads(clock.now()) == 1
    assert names(world.visit(), "/sandbox") == []
    assert blobs_kept(blobs) == kept


def test_bytes_that_could_not_be_removed_go_with_the_next_sweep(
    world: World, blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill, or an object store that is away, between the row and its bytes."""
    kept = blobs_kept(blobs)
    visit = world.visit()
    put(visit, "/sandbox/a.txt", b"a")

    def away(_sha256: str) -> None:
        raise Unavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(blobs, "remove", away)
        visit.remove("/sandbox/a.txt")
    assert blobs_kept(blobs) == kept + 1
    world.folders.expire_uploads(clock.now() - dt.timedelta(days=1))
    assert blobs_kept(blobs) == kept
    left = sa.select(sa.func.count()).select_from(SandboxLeftover)
    assert world.db.read(lambda tx: tx.execute(left).scalar_one()) == 0


def test_below_the_floor_nothing_is_written(world: World) -> None:
    """The space that is left is for receipts."""

    def no_space() -> None:
        raise Unavailable("nearly full", code="disk_full")

    visit = world.visit()
    upload = visit.create("/sandbox/a")
    world.folders._sandboxes.quota._require_space = no_space
    with pytest.raises(Unavailable):
        upload.write(0, b"x")
    with pytest.raises(Unavailable):
        visit.close(upload)
    with pytest.raises(Unavailable):
        visit.create("/sandbox/b")


def test_a_file_of_its_own_limit_is_cut_off_at_it(world: World, blobs: LocalBlobs) -> None:
    """A document has a size at most, whatever the quota."""
    upload = Upload("/intake/x", blobs.scratch(), Quota(100, lambda: None), "me", 0, lambda _: None, most=5)
    upload.write(0, b"12345")
    with pytest.raises(TooLarge):
        upload.write(5, b"6")
    upload.release()
