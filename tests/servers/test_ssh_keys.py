"""Host keys: made once, kept to their owner, never signed with SHA-1."""

import stat
from pathlib import Path

import asyncssh
import pytest

from gateway.errors import ConfigError
from gateway.servers import ssh_keys
from gateway.servers.ssh_algorithms import LEGACY


def test_host_keys_are_made_once_and_stay(tmp_path: Path) -> None:
    """A host key that changes stops every ERP at once."""
    first = ssh_keys.load((), tmp_path).pairs()
    again = ssh_keys.load((), tmp_path).pairs()
    assert [pair.public_data for pair in first] == [pair.public_data for pair in again]
    assert [pair.algorithm for pair in first] == [b"ssh-ed25519", b"ssh-rsa", b"ssh-rsa"]
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(list(tmp_path.iterdir())) == 2


def test_an_rsa_key_signs_with_sha_2_alone(tmp_path: Path) -> None:
    """ssh-rsa is SHA-1."""
    _, *rsa = ssh_keys.load((), tmp_path).pairs()
    assert [list(pair.host_key_algorithms) for pair in rsa] == [[b"rsa-sha2-512"], [b"rsa-sha2-256"]]


def test_what_one_client_negotiated_does_not_change_what_another_is_signed(tmp_path: Path) -> None:
    """A pair for each signature: two key exchanges that overlap would else sign with one another's."""
    pairs = ssh_keys.load((), tmp_path).pairs(LEGACY.rsa)
    assert [pair.host_key_algorithms for pair in pairs[1:]] == [(name,) for name in LEGACY.rsa]
    assert len({id(pair) for pair in pairs}) == 4 and len({pair.public_data for pair in pairs}) == 2


def test_configured_keys_serve_instead(tmp_path: Path) -> None:
    """Keys of an existing server move in."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    path = tmp_path / "host"
    key.write_private_key(path)
    path.chmod(0o600)
    (served,) = ssh_keys.load((path,), tmp_path).serving
    assert ssh_keys.public_line(served) == " ".join(key.export_public_key().decode().split()[:2])
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """Whoever reads it can be the gateway."""
    path = tmp_path / "host"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="0600"):
        ssh_keys.load((path,), tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a key", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_what_is_no_key_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    """At start, with the file's path: nobody searches in a traceback."""
    path = tmp_path / "host"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="host"):
        ssh_keys.load((path,), tmp_path)
    with pytest.raises(ConfigError, match="missing"):
        ssh_keys.load((tmp_path / "missing",), tmp_path)
