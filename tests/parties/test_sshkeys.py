"""The keys that open a folder: which are taken, and how they come and go."""

import contextlib
import datetime as dt
import subprocess
from pathlib import Path

import asyncssh
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import select

from gateway import clock
from gateway.domain.folders import SshKey
from gateway.errors import Conflict, NotFound, Refused
from gateway.parties import folders, sshkeys
from tests.parties.conftest import Desk, client_actor
from tests.peers import program, requires

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICHyKlaJLoidAhrGhKTr7Oh2Y1utWhSRdxgqaIWnQTON"
FINGERPRINT = "SHA256:Hic1DANG8UmT8/PPm6Tbkv8GOqtvyCaFrm3p9ojKgMI"


def _new(algorithm: str = "ssh-ed25519", bits: int = 2048) -> asyncssh.SSHKey:
    return (
        asyncssh.generate_private_key(algorithm, key_size=bits)
        if algorithm == "ssh-rsa"
        else (asyncssh.generate_private_key(algorithm))
    )


def _line(key: asyncssh.SSHKey, format_: str = "openssh") -> str:
    return key.export_public_key(format_).decode()


@pytest.mark.parametrize(
    "text", [ED25519, f"{ED25519} jeanne@office\n", f"  {ED25519}\r\n", ED25519.replace(" ", "  ")]
)
def test_the_line_of_a_pub_file_is_read_without_its_comment(text: str) -> None:
    """The comment names a person; the fingerprint is the one that `ssh-keygen -l` prints."""
    assert sshkeys.read_public_key(text) == sshkeys.PublicKey(ED25519, FINGERPRINT)


@pytest.mark.parametrize(
    "algorithm", ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"]
)
def test_these_algorithms_are_taken_in_both_file_forms(algorithm: str) -> None:
    """OpenSSH's line, and what PuTTYgen saves (RFC 4716)."""
    key = _new(algorithm)
    read = sshkeys.read_public_key(_line(key))
    assert read.line.split() == _line(key).split()[:2]
    assert sshkeys.read_public_key(_line(key, "rfc4716")) == read


@requires("ssh-keygen")
def test_the_fingerprint_is_what_ssh_keygen_prints(tmp_path: Path) -> None:
    """People compare the two by eye."""
    path = tmp_path / "id"
    keygen = [program("ssh-keygen"), "-q", "-t", "ecdsa", "-N", "", "-C", "a comment", "-f", str(path)]
    subprocess.run(keygen, check=True)
    listed = subprocess.run([program("ssh-keygen"), "-lf", str(path)], check=True, capture_output=True, text=True)
    assert sshkeys.read_public_key(path.with_suffix(".pub").read_text()).fingerprint == listed.stdout.split()[1]


def _private_keys() -> list[str]:
    key = _new()
    forms = [key.export_private_key(form).decode() for form in ("openssh", "pkcs8-pem")]
    encrypted = key.export_private_key("pkcs8-pem", passphrase="secret").decode()
    putty = "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nPublic-Lines: 2\n"
    return [*forms, encrypted, putty, "\n" + forms[0], _line(key) + forms[0]]


@pytest.mark.parametrize("text", _private_keys())
def test_a_private_key_is_refused_as_what_it_is(text: str) -> None:
    """Whoever sends one must hear it: that key is spent."""
    with pytest.raises(Refused, match="new pair") as refused:
        sshkeys.read_public_key(text)
    assert refused.value.code == "private_key"


def _certificate() -> str:
    authority, key = _new(), _new()
    return authority.generate_user_certificate(key, "id").export_certificate().decode()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "key_format"),
        ("hello", "key_format"),
        ("ssh-ed25519", "key_format"),
        ("ssh-ed25519 AAAA", "key_format"),
        ("ssh-ed25519 !!!!", "key_format"),
        (f"{ED25519}\n{ED25519}", "key_format"),
        (f'from="10.0.0.1" {ED25519}', "key_format"),
        (f"command=/bin/sh {ED25519}", "key_format"),
        (ED25519.replace("ssh-ed25519", "ssh-rsa"), "key_format"),
        ("ssh-rsa " + "A" * 20_000, "key_format"),
        (_certificate(), "key_algorithm"),
        (_line(_new("ssh-dss")), "key_algorithm"),
        ("sk-ssh-ed25519@openssh.com AAAA", "key_algorithm"),
        (_line(_new("ssh-ed448")), "key_algorithm"),
        (_line(_new("ssh-ed448"), "rfc4716"), "key_algorithm"),
        (_line(_new("ssh-rsa", 1024)), "key_size"),
    ],
)
def test_anything_else_is_refused_with_its_reason(text: str, code: str) -> None:
    """Options, two keys, a certificate, a weak or unusual key: each says what to send instead."""
    with pytest.raises(Refused) as refused:
        sshkeys.read_public_key(text)
    assert refused.value.code == code


def test_an_rsa_key_has_a_size_that_can_be_verified_quickly() -> None:
    """2,048 bits are taken; so many that each log-in costs a second are not."""
    assert sshkeys.read_public_key(_line(_new("ssh-rsa", 2048))).line.startswith("ssh-rsa ")
    huge = rsa.RSAPublicNumbers(65537, (1 << 16383) | 1).public_key()
    line = huge.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    with pytest.raises(Refused) as refused:
        sshkeys.read_public_key(line)
    assert refused.value.code == "key_size"


@given(st.text(max_size=300) | st.builds("{} {}".format, st.sampled_from(["ssh-rsa", "ssh-ed25519"]), st.text()))
def test_no_text_gets_past_but_as_a_key_or_a_refusal(text: str) -> None:
    """It comes from anyone who has a token."""
    with contextlib.suppress(Refused):
        assert sshkeys.read_public_key(text).fingerprint.startswith("SHA256:")


def test_a_key_opens_the_clients_first_folder_or_the_one_named(desk: Desk) -> None:
    """The row keeps the line without its comment, and who added it."""
    client = desk.client()
    second = desk.do(folders.create_folder, client.id, "plant-b")
    own = client_actor(client.id)
    key = desk.do_as(own, sshkeys.add_key, client.id, f"{ED25519} jeanne@office", " ERP ")
    assert (key.public_key, key.fingerprint, key.label, key.created_by) == (ED25519, FINGERPRINT, "ERP", own.id)
    assert key.folder_id == desk.do(folders.list_folders, client.id)[0].id
    named = desk.do_as(own, sshkeys.add_key, client.id, ED25519, "ERP", second.id)
    assert named.folder_id == second.id
    assert [row.id for row in desk.do_as(own, sshkeys.list_keys, client.id)] == [key.id, named.id]
    assert "jeanne" not in desk.records()


def test_the_same_key_again_is_the_same_row(desk: Desk) -> None:
    """A repeated request adds nothing; another end is a conflict, not a silent no."""
    client = desk.client()
    key = desk.do(sshkeys.add_key, client.id, ED25519, "ERP")
    before = desk.events()
    assert desk.do(sshkeys.add_key, client.id, f"{ED25519} other comment", "another label").id == key.id
    assert desk.events() == before
    with pytest.raises(Conflict, match="never"):
        desk.do(sshkeys.add_key, client.id, ED25519, "ERP", expires_at=clock.now() + dt.timedelta(days=9))


def test_a_revoked_key_never_comes_back(desk: Desk) -> None:
    """Someone revoked it because it may be in the wrong hands."""
    client = desk.client()
    key = desk.do(sshkeys.add_key, client.id, ED25519, "ERP")
    revoked = desk.do_as(client_actor(client.id), sshkeys.revoke_key, client.id, key.id)
    assert revoked.revoked_at is not None
    assert desk.do(sshkeys.revoke_key, client.id, key.id).revoked_at == revoked.revoked_at
    assert desk.events(key.id) == ["key.added", "key.revoked"]
    with pytest.raises(Conflict, match="new pair"):
        desk.do(sshkeys.add_key, client.id, ED25519, "ERP")


def test_twenty_keys_in_use_are_enough(desk: Desk) -> None:
    """Each is tried at a log-in; revoked ones do not count."""
    client = desk.client()
    keys = [desk.do(sshkeys.add_key, client.id, _line(_new()), f"key {n}") for n in range(20)]
    one_more = _line(_new())
    with pytest.raises(Conflict) as conflict:
        desk.do(sshkeys.add_key, client.id, one_more, "one more")
    assert conflict.value.code == "too_many_keys"
    desk.do(sshkeys.revoke_key, client.id, keys[0].id)
    assert desk.do(sshkeys.add_key, client.id, one_more, "one more").revoked_at is None


def test_what_a_key_needs_beside_itself(desk: Desk) -> None:
    """A label, an end that is still to come, a folder of the client."""
    client, other = desk.client(), desk.client()
    foreign = desk.do(folders.list_folders, other.id)[0].id
    for label in ("", "  ", "x" * 101):
        with pytest.raises(Refused):
            desk.do(sshkeys.add_key, client.id, ED25519, label)
    with pytest.raises(Refused) as refused:
        desk.do(sshkeys.add_key, client.id, ED25519, "ERP", expires_at=clock.now())
    assert refused.value.code == "expires_in_the_past"
    with pytest.raises(NotFound):
        desk.do(sshkeys.add_key, client.id, ED25519, "ERP", foreign)
    assert desk.read(lambda tx: tx.exec(select(SshKey)).all()) == []


def test_anothers_key_is_one_that_does_not_exist(desk: Desk) -> None:
    """Neither listed nor revoked."""
    client, other = desk.client(), desk.client()
    key = desk.do(sshkeys.add_key, client.id, ED25519, "ERP")
    stranger = client_actor(other.id)
    for of, id_ in ((client, key.id), (other, key.id), (other, "key_unknown")):
        with pytest.raises(NotFound):
            desk.do_as(stranger, sshkeys.revoke_key, of.id, id_)
    with pytest.raises(NotFound):
        desk.do(sshkeys.revoke_key, other.id, key.id)
    with pytest.raises(NotFound):
        desk.do_as(stranger, sshkeys.list_keys, client.id)
    assert desk.do(sshkeys.list_keys, client.id)[0].revoked_at is None
