"""`gateway import clients`: a list and a directory of keys, as an administrator has them."""

import json
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from gateway.commands import moving
from gateway.errors import Refused
from tests.test_cli import Gateway, gateway, settings_file

__all__ = ["gateway", "settings_file"]


def _key() -> str:
    return asyncssh.generate_private_key("ssh-ed25519", comment="erp").export_public_key().decode()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Keys in each place that servers keep them."""
    made = tmp_path / "keys"
    for place in ("a", "b.pub", "c/authorized_keys", "d/.ssh/authorized_keys"):
        path = made / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_key())
    return made


def _import(gateway: Gateway, *words: Any) -> tuple[int, Any]:
    code, out, err = gateway("import", "clients", *words, "--json")
    assert out, err
    return code, json.loads(out)


@pytest.mark.parametrize(("mark", "separator"), [("", ","), ("\ufeff", ";")])
def test_a_list_is_taken_as_a_spreadsheet_saves_it(
    gateway: Gateway, tmp_path: Path, keys: Path, mark: str, separator: str
) -> None:
    """UTF-8 with or without a mark, commas or semicolons, CR LF."""
    lines = [["Client", "USER_NAME"], *([f"Société {name}", name] for name in "abcd")]
    file = tmp_path / "clients.csv"
    file.write_text(mark + "".join(separator.join(cells) + "\r\n" for cells in lines), "utf-8", newline="")
    code, dry = _import(gateway, file, "--authorized-keys", keys, "--dry-run")
    assert code == 0
    assert [(one["line"], one["outcome"], len(one["keys"])) for one in dry] == [(n, "created", 1) for n in (2, 3, 4, 5)]
    assert json.loads(gateway("client", "list", "--json")[1]) == []
    assert _import(gateway, file, "--authorized-keys", keys) == (0, dry)
    code, again = _import(gateway, file, "--authorized-keys", keys)
    assert (code, {one["outcome"] for one in again}) == (0, {"same"})


def test_a_refused_line_or_key_is_exit_1_and_stops_no_other(gateway: Gateway, tmp_path: Path, keys: Path) -> None:
    """A script must notice; a person reads which."""
    (keys / "e").symlink_to("/etc/passwd")
    (keys / "f").write_text(f'command="rsync" {_key()}')
    file = tmp_path / "clients.csv"
    file.write_text("client,user_name,siren\nA,a,\nB,b\nC,c,123\nE,e,\nF,f,\n..,..,\n")
    code, out, _ = gateway("import", "clients", file, "--authorized-keys", keys)
    assert code == 1
    assert "the line has 2 cells, the header 3" in out
    assert "command cannot be kept" in out
    code, found = _import(gateway, file, "--authorized-keys", keys)
    assert [one["outcome"] for one in found] == ["same", "refused", "refused", "refused", "same", "same"]
    assert [one["column"] for one in found] == ["", "", "siren", "authorized_keys", "", ""]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "client is missing"),
        (b"client,user\n", "user_name was meant"),
        (b"client,user_name,colour\n", "the columns are"),
        (b"client,user_name,client\n", "twice"),
        (b"client\n", "user_name is missing"),
        ("client,user_name\nSociété,a\n".encode("latin-1"), "not UTF-8"),
        (b'client,user_name\n"A,a\n', "not CSV"),
        (b"client,user_name\n" + b"A,a\n" * 2001, "split it"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_refused_before_anything_is_sent(
    tmp_path: Path, content: bytes, said: str
) -> None:
    """A wrong header would make every line wrong."""
    file = tmp_path / "clients.csv"
    file.write_bytes(content)
    with pytest.raises(Refused, match=said):
        moving.read(file)


def _host_key(path: Path, algorithm: str = "ssh-ed25519", passphrase: str | None = None) -> str:
    key = asyncssh.generate_private_key(algorithm)
    path.write_bytes(key.export_private_key("pkcs8-pem", passphrase))
    path.chmod(0o600)
    return key.get_fingerprint()


def test_the_old_servers_host_keys_serve_on(gateway: Gateway, tmp_path: Path) -> None:
    """A directory as /etc/ssh is; what it says can be compared with ssh-keyscan."""
    etc = tmp_path / "ssh"
    etc.mkdir()
    wanted = {_host_key(etc / "ssh_host_ed25519_key"), _host_key(etc / "ssh_host_ecdsa_key", "ecdsa-sha2-nistp256")}
    (etc / "ssh_host_dsa_key").write_text("of no use")
    code, out, err = gateway("import", "host-keys", etc, "--json")
    assert code == 0, err
    assert {(one["outcome"], one["fingerprint"]) for one in json.loads(out)} == {("installed", one) for one in wanted}
    assert {one["outcome"] for one in json.loads(gateway("import", "host-keys", etc, "--json")[1])} == {"same"}
    listed = json.loads(gateway("host-keys", "list", "--json")[1])
    assert {one["fingerprint"] for one in listed if one["role"] == "serving"} == wanted
    assert "ssh-keyscan" in gateway("import", "host-keys", etc)[1]


def test_host_keys_that_cannot_be_used_say_why_and_what_to_do(gateway: Gateway, tmp_path: Path) -> None:
    """All or none: a part of the keys would serve alone."""
    good, locked, open_ = tmp_path / "good", tmp_path / "locked", tmp_path / "open"
    for path, passphrase in ((good, None), (locked, "secret"), (open_, None)):
        _host_key(path, passphrase=passphrase)
    open_.chmod(0o644)
    for path, said in ((locked, "--passphrase-file"), (open_, "chmod 600"), (tmp_path / "none", "No such file"),
                       (tmp_path, "no ssh_host_*_key")):  # fmt: skip
        code, _, err = gateway("import", "host-keys", good, path)
        assert code == 1
        assert said in err, err
    assert json.loads(gateway("host-keys", "list", "--json")[1]) == []
    (tmp_path / "pass").write_text("secret\n")
    assert gateway("import", "host-keys", locked, "--passphrase-file", tmp_path / "pass")[0] == 0


def test_host_keys_are_exchanged_by_commands(gateway: Gateway, tmp_path: Path) -> None:
    """Announced first, then serving, then put aside."""
    old = _host_key(tmp_path / "old")
    assert gateway("import", "host-keys", tmp_path / "old")[0] == 0
    code, out, err = gateway("host-keys", "announce")
    assert code == 0, err
    (new,) = (word for word in out.split() if word.startswith("SHA256:"))
    assert gateway("host-keys", "serve", new)[0] == 0
    assert gateway("host-keys", "retire", old)[0] == 0
    roles = {one["fingerprint"]: one["role"] for one in json.loads(gateway("host-keys", "list", "--json")[1])}
    assert roles == {new: "serving", old: "aside"}
    assert gateway("host-keys", "announce", "--type", "ssh-dss")[0] == 2


def test_a_long_list_is_rehearsed_in_one_go(gateway: Gateway, tmp_path: Path) -> None:
    """Its body is larger than those of other calls; a refused line costs nothing here."""
    file, keys = tmp_path / "clients.csv", tmp_path / "keys"
    keys.mkdir()
    file.write_text("client,user_name,siren\n" + "".join(f"Client {n},u{n},x\n" for n in range(1100)))
    for n in range(1100):
        (keys / f"u{n}").write_text("# " + "x" * 1000)
    code, found = _import(gateway, file, "--authorized-keys", keys, "--dry-run")
    assert (code, len(found), {one["column"] for one in found}) == (1, 1100, {"siren"})
