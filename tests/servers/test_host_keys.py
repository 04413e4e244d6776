"""Host keys come in from another server, take over from one another, and clients learn of it in time."""

import asyncio
import stat
from pathlib import Path

import asyncssh
import pytest

from gateway.dropfolder import host_keys
from gateway.errors import Conflict, NotFound, Refused
from gateway.servers import host_key_files, ssh_keys
from gateway.servers.host_key_files import ANNOUNCED, ASIDE, SERVING, HostKeyFiles
from gateway.servers.host_key_proofs import Proofs
from tests.dropfolder.world import World

from .sftp_world import eventually, listening


def _key(algorithm: str = "ssh-ed25519") -> asyncssh.SSHKey:
    return asyncssh.generate_private_key(algorithm)


def _roles(directory: Path) -> dict[str, str]:
    return {one.fingerprint: one.role for one in HostKeyFiles(directory).kept()}


def _served(directory: Path) -> list[str]:
    return [key.get_fingerprint() for key in ssh_keys.load((), directory).serving]


@pytest.mark.parametrize("form", ["openssh", "pkcs1-pem", "pkcs8-pem", "pkcs8-der"])
def test_keys_are_read_in_the_forms_that_servers_keep(form: str) -> None:
    """Older ones are PEM files."""
    key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
    assert host_key_files.read(key.export_private_key(form)).public_data == key.public_data


def test_a_passphrase_is_asked_for_and_opens_the_key() -> None:
    """And a wrong one is told from none."""
    key = _key()
    private = key.export_private_key("pkcs8-pem", "secret")
    with pytest.raises(host_key_files.Encrypted, match="protects"):
        host_key_files.read(private)
    with pytest.raises(host_key_files.Encrypted, match="does not open"):
        host_key_files.read(private, "wrong")
    assert host_key_files.read(private, "secret").public_data == key.public_data


@pytest.mark.parametrize(("algorithm", "size"), [("ssh-rsa", 1024), ("ssh-dss", None)])
def test_a_weak_key_cannot_serve(algorithm: str, size: int | None) -> None:
    """Whatever the server before did."""
    key = asyncssh.generate_private_key(algorithm, **({"key_size": size} if size else {}))  # type: ignore[arg-type]
    with pytest.raises(Refused):
        host_key_files.read(key.export_private_key("pkcs8-pem"))
    with pytest.raises(Refused):
        host_key_files.read(b"no key")


def test_imported_keys_serve_alone_and_what_the_gateway_made_is_kept(tmp_path: Path) -> None:
    """A client that knows the old server's ECDSA key alone must not be shown a new Ed25519 key."""
    made = _served(tmp_path)
    old = _key("ecdsa-sha2-nistp256")
    assert HostKeyFiles(tmp_path).install([old]) == ["installed"]
    assert HostKeyFiles(tmp_path).install([old]) == ["same"]
    assert _served(tmp_path) == [old.get_fingerprint()]
    assert _roles(tmp_path) == {old.get_fingerprint(): SERVING} | dict.fromkeys(made, ASIDE)
    for path in (tmp_path / "host_keys").rglob("*_key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_key_of_a_type_is_never_put_over_the_first(tmp_path: Path) -> None:
    """All or none: and the other keys of that import are not there either."""
    first, second, rsa = _key(), _key(), _key("ecdsa-sha2-nistp256")
    HostKeyFiles(tmp_path).install([first])
    with pytest.raises(Conflict, match="announce"):
        HostKeyFiles(tmp_path).install([rsa, second])
    assert _served(tmp_path) == [first.get_fingerprint()]


def test_a_new_key_is_announced_then_serves_and_the_old_one_stays_announced(tmp_path: Path) -> None:
    """From the keys that the gateway made, too; there is a way back."""
    ed25519, rsa = _served(tmp_path)
    new = _key()
    files = HostKeyFiles(tmp_path)
    files.announce(new)
    assert _served(tmp_path) == [ed25519, rsa]
    assert [key.get_fingerprint() for key in ssh_keys.load((), tmp_path).announced] == [new.get_fingerprint()]
    with pytest.raises(Conflict):
        files.announce(new)
    files.serve(new.get_fingerprint()[:20])
    assert _served(tmp_path) == [new.get_fingerprint(), rsa]
    assert _roles(tmp_path) == {new.get_fingerprint(): SERVING, rsa: SERVING, ed25519: ANNOUNCED}
    files.retire(ed25519)
    assert _roles(tmp_path)[ed25519] == ASIDE
    files.retire(rsa)
    with pytest.raises(Conflict, match="only key"):
        files.retire(new.get_fingerprint())
    with pytest.raises(NotFound):
        files.serve("SHA256:nobody")


def test_killed_while_keys_change_places_one_of_the_two_serves(tmp_path: Path) -> None:
    """Never a third one that nobody knows."""
    first, second = _key(), _key()
    HostKeyFiles(tmp_path).install([first])
    HostKeyFiles(tmp_path).announce(second)
    (path,) = HostKeyFiles(tmp_path).paths(ANNOUNCED)
    path.rename(tmp_path / "host_keys" / SERVING / path.name)
    keys = ssh_keys.load((), tmp_path)
    assert {keys.serving[0].get_fingerprint(), keys.announced[0].get_fingerprint()} == {
        first.get_fingerprint(), second.get_fingerprint()
    }  # fmt: skip


def test_of_configured_keys_the_first_of_a_type_serves_and_further_ones_are_announced(tmp_path: Path) -> None:
    """The order in the settings is the order of succession."""
    paths = []
    for number, key in enumerate(keys := [_key("ecdsa-sha2-nistp256"), _key(), _key()]):
        paths.append(tmp_path / f"{number}")
        host_key_files.write(paths[-1], key.export_private_key())
    loaded = ssh_keys.load(paths, tmp_path)
    assert [key.public_data for key in loaded.serving] == [keys[1].public_data, keys[0].public_data]
    assert [key.public_data for key in loaded.announced] == [keys[2].public_data]


async def _learn(listener_world: World, directory: Path) -> tuple[list[str], list[host_keys.Known]]:
    """What asyncssh's client is told and proven, and what is known of it afterwards."""
    learnt: list[str] = []

    def told(added: list[asyncssh.SSHKey], *_others: object) -> None:
        learnt.extend(key.get_fingerprint() for key in added)

    async with listening(listener_world, directory) as listener:
        served = ssh_keys.load((), directory).serving
        line = f"[127.0.0.1]:{listener.port} {served[0].export_public_key().decode()}"
        hosts = asyncssh.import_known_hosts(line)
        async with listener.connect(known_hosts=hosts, server_host_keys_handler=told):
            await eventually(lambda: bool(learnt))
            db = listener_world.db

            def facts() -> list[host_keys.Known]:
                found: list[host_keys.Known] = db.read(host_keys.known)
                return found

            await eventually(lambda: sum(one.proven for one in facts()) == len(learnt))
        return learnt, facts()


def test_a_client_learns_all_keys_with_proof_and_it_is_known_who_has(world: World, tmp_path: Path) -> None:
    """Row 12: show who has already seen the new key."""
    new = _key()
    HostKeyFiles(tmp_path).announce(new)
    learnt, known = asyncio.run(_learn(world, tmp_path))
    ed25519, rsa = _served(tmp_path)
    assert set(learnt) == {rsa, new.get_fingerprint()}
    facts = {one.fingerprint: (one.announced, one.proven, one.used) for one in known}
    assert facts == {ed25519: (1, 0, 1), rsa: (1, 1, 0), new.get_fingerprint(): (1, 1, 0)}
    assert {one.missing for one in known} == {0}


class _Connection:
    """As much of one as a proof asks."""

    def __init__(self, served: asyncssh.SSHKeyPair | None) -> None:
        self._served = served

    def get_server_host_key(self) -> asyncssh.SSHKeyPair | None:
        return self._served


def test_each_key_signs_once_however_often_it_is_asked_for(tmp_path: Path) -> None:
    """One packet can ask a thousand times for an RSA signature, and the loop serves everybody."""
    told: list[str] = []
    keys = ssh_keys.load((), tmp_path)
    rsa = keys.serving[1]
    proofs = Proofs(keys.serving, _Connection(keys.pairs()[0]), told.append)  # type: ignore[arg-type]
    signatures = {proofs[rsa.public_data].sign(b"session") for _ in range(1000)}
    assert (len(signatures), told) == (1, [rsa.get_fingerprint()])
    assert rsa.convert_to_public().verify(b"session", signatures.pop())


@pytest.mark.parametrize("algorithm", [b"rsa-sha2-512", b"rsa-sha2-256"])
def test_an_rsa_proof_is_signed_as_the_key_exchange_was(tmp_path: Path, algorithm: bytes) -> None:
    """OpenSSH accepts no other."""
    keys = ssh_keys.load((), tmp_path)
    (pair,) = (pair for pair in keys.pairs() if pair.host_key_algorithms == (algorithm,))
    proofs = Proofs(keys.serving, _Connection(pair), lambda _: None)  # type: ignore[arg-type]
    assert algorithm in proofs[keys.serving[1].public_data].sign(b"x")[:20]
