"""Who is connected: open sessions only, and a client sees its own."""

from gateway import clock, evidence
from gateway.domain.folders import FolderSession
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


def test_a_client_sees_its_own_connections_only(gateway: World) -> None:
    """Another's address is nothing to it."""
    mine, _ = begun(gateway, 0), begun(gateway, 1)
    assert [one["id"] for one in gateway.ask("GET", "/connections", "own").json()["items"]] == [mine]
