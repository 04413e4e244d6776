"""Who is connected: open sessions only, and a client sees its own."""

from dataclasses import replace

from gateway import clock, evidence
from gateway.domain.folders import FailedConnection, Folder, FolderSession
from gateway.store.database import Transaction

from .world import World


def begun(world: World, owner: int, *, ended: bool = False) -> str:
    """A session of a party, opened by its key."""
    party, now = world.parties[owner], clock.now()

    def step(tx: Transaction) -> str:
        row = FolderSession(
            folder_id=party.folder, protocol="sftp", key_id=party.key, banner="OpenSSH_9.2", highest_sequence=7,
            address_id=evidence.personal(tx, "address", "192.0.2.7")["id"], started_at=now,
            ended_at=now if ended else None,
        )  # fmt: skip
        tx.add(row)
        return row.id

    made: str = world.write(step)
    return made


def test_open_sessions_are_shown_with_where_they_come_from_and_what_opened_them(anywhere: World) -> None:
    """The longest first; what has ended is not there."""
    begun(anywhere, 0, ended=True)
    first, second = begun(anywhere, 0), begun(anywhere, 1)
    items = anywhere.ask("GET", "/connections", "viewer").json()["items"]
    assert [one["id"] for one in items] == [first, second]
    assert {name: items[0][name] for name in ("address", "credential", "banner", "protocol", "highest_sequence")} == {
        "address": "192.0.2.7", "credential": "erp", "banner": "OpenSSH_9.2", "protocol": "sftp", "highest_sequence": 7,
    }  # fmt: skip
    page = anywhere.ask("GET", "/connections", "viewer", params={"limit": 1}).json()
    rest = anywhere.ask("GET", "/connections", "viewer", params={"limit": 1, "cursor": page["next_cursor"]}).json()
    assert [one["id"] for one in rest["items"]] == [second]


def test_a_session_says_what_it_asked_for_last(anywhere: World) -> None:
    """Of sessions of another process nothing is known."""
    here, elsewhere = begun(anywhere, 0), begun(anywhere, 1)
    anywhere.app.state.parts = replace(anywhere.app.state.parts, last_act={here: "read /inbox/a.pdf"}.get)
    items = anywhere.ask("GET", "/connections", "viewer").json()["items"]
    assert {one["id"]: one["last_act"] for one in items} == {here: "read /inbox/a.pdf", elsewhere: None}


def test_a_client_sees_its_own_connections_only(gateway: World) -> None:
    """Another's address is nothing to it."""
    mine, _ = begun(gateway, 0), begun(gateway, 1)
    assert [one["id"] for one in gateway.ask("GET", "/connections", "own").json()["items"]] == [mine]


def failed(world: World, owner: int | None, user: str) -> str:
    """A log-in that failed, from an address that this party alone has listed, or nobody."""
    client = None if owner is None else world.parties[owner].client

    def step(tx: Transaction) -> str:
        row = FailedConnection(
            at=clock.now(), protocol="ftps", address_id=evidence.personal(tx, "failed_from", "192.0.2.7")["id"],
            client_id=client, user_name=user, code="wrong_password", cause="the password is wrong", banner="FileZilla",
        )  # fmt: skip
        tx.add(row)
        return row.id

    made: str = world.write(step)
    return made


def test_failures_are_shown_newest_first_with_their_cause(anywhere: World) -> None:
    """To operators all of them."""
    first, second = failed(anywhere, None, "root"), failed(anywhere, 0, "root")
    page = anywhere.ask("GET", "/connections/failures", "viewer", params={"limit": 1}).json()
    assert [one["id"] for one in page["items"]] == [second]
    assert {name: page["items"][0][name] for name in ("address", "user", "code", "cause", "banner", "protocol")} == {
        "address": "192.0.2.7", "user": "root", "code": "wrong_password", "cause": "the password is wrong",
        "banner": "FileZilla", "protocol": "ftps",
    }  # fmt: skip
    rest = anywhere.ask("GET", "/connections/failures", "viewer", params={"cursor": page["next_cursor"]}).json()
    assert [one["id"] for one in rest["items"]] == [first]


def test_a_client_sees_failures_from_its_own_addresses_and_no_name_but_its_own(gateway: World) -> None:
    """Who else sits behind its address tried other names: they are not its business."""
    own = gateway.parties[0]
    with_name: str = gateway.write(lambda tx: tx.get_one(Folder, own.folder).user_name)
    shown, hidden = failed(gateway, 0, with_name), failed(gateway, 0, "somebody-else")
    failed(gateway, 1, with_name)
    failed(gateway, None, with_name)
    items = gateway.ask("GET", "/connections/failures", "own").json()["items"]
    assert [(one["id"], one["user"]) for one in items] == [(hidden, ""), (shown, with_name)]
