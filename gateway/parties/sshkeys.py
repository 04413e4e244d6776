"""The SSH public keys that open a drop folder: read, added, revoked.

Taken: Ed25519, ECDSA on the NIST curves, RSA of 2048 bits or more; one line as in `id_ed25519.pub` (OpenSSH), or the
file that PuTTYgen saves (RFC 4716). Refused, saying what to send instead: private keys, certificates, keys on
hardware tokens (sk-…), DSA, options in front of the key, more than one key. A revoked key never comes back.
"""

import datetime as dt
import re
from dataclasses import dataclass

import asyncssh
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlmodel import col, select

from .. import evidence
from ..access import Actor, Permission, client_for
from ..domain.folders import Folder, FolderPassword, SshKey
from ..errors import Conflict, NotFound, Refused
from ..store import database
from ..store.database import Transaction

MAX_KEYS = 20
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192  # a verification with more takes long enough to be an attack
MAX_CHARACTERS = 16_000
_ALGORITHMS = (b"ssh-ed25519", b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp521", b"ssh-rsa")
_RFC4716 = "---- BEGIN SSH2 PUBLIC KEY ----"
_PRIVATE = re.compile(r"PRIVATE KEY|^PuTTY-User-Key-File", re.MULTILINE)
_TYPE = re.compile(r"(?:ssh-|ecdsa-|sk-)[a-z0-9@.-]+")


@dataclass(frozen=True)
class PublicKey:
    """A key that was read: `line` is `algorithm base64`, `fingerprint` SHA256:… as OpenSSH prints it."""

    line: str
    fingerprint: str


def read_public_key(text: str) -> PublicKey:
    """The public key in a text; Refused (`private_key`, `key_format`, `key_algorithm`, `key_size`)."""
    text = text.strip()
    if _PRIVATE.search(text):
        raise Refused(
            "this is a private key, which must never leave its owner: make a new pair and send the .pub file of it",
            code="private_key",
        )
    if len(text) > MAX_CHARACTERS or (not text.startswith(_RFC4716) and not _one_line(text)):
        raise Refused("send one public key: the one line of a .pub file", code="key_format")
    try:
        key = asyncssh.import_public_key(text)
    except (asyncssh.KeyImportError, ValueError):
        raise Refused(
            "this cannot be read as a public key: send the one line of a .pub file", code="key_format"
        ) from None
    _check_strength(key)
    line = " ".join(key.export_public_key("openssh").decode().split()[:2])
    return PublicKey(line, key.get_fingerprint("sha256"))


def _one_line(text: str) -> bool:
    """One line that begins with the name of an algorithm; Refused for what is known and never taken."""
    name = text.split(None, 1)[0] if text else ""
    if "-cert-v01@" in name:
        raise Refused("this is a certificate: send the public key that it was made for", code="key_algorithm")
    if not _TYPE.fullmatch(name):
        return False
    if name.encode() not in _ALGORITHMS:
        raise Refused(f"keys of type {name[:60]} are not taken: make one of Ed25519", code="key_algorithm")
    return len(text.splitlines()) == 1


def _check_strength(key: asyncssh.SSHKey) -> None:
    if key.get_algorithm().encode() not in _ALGORITHMS:
        raise Refused(f"keys of type {key.get_algorithm()} are not taken: make one of Ed25519", code="key_algorithm")
    public = key.pyca_key
    if isinstance(public, rsa.RSAPublicKey) and not MIN_RSA_BITS <= public.key_size <= MAX_RSA_BITS:
        raise Refused(
            f"an RSA key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, this one has {public.key_size}", code="key_size"
        )


def add_key(
    tx: Transaction,
    actor: Actor,
    client_id: str,
    public_key: str,
    label: str,
    folder_id: str | None = None,
    expires_at: dt.datetime | None = None,
) -> SshKey:
    """Let a key open a folder of the client, its first one if none is named.

    The same key again answers the same row. Conflict when it was revoked, when it is there with another end, or when
    the folder has 20 keys in use.
    """
    client_for(tx, actor, Permission.KEYS_MANAGE, client_id, hold=True)
    folder = folder_of(tx, client_id, folder_id)
    key, at = read_public_key(public_key), database.now(tx)
    if not 0 < len(label.strip()) <= 100:
        raise Refused("a key's label has 1 to 100 characters", code="label_format")
    if expires_at is not None and expires_at <= at:
        raise Refused("the key would have expired already", code="expires_in_the_past")
    keys = tx.exec(select(SshKey).where(SshKey.folder_id == folder.id)).all()
    known = next((row for row in keys if row.fingerprint == key.fingerprint), None)
    if known is not None:
        return _same(known, expires_at)
    if sum(is_in_use(row, at) for row in keys) >= MAX_KEYS:
        raise Conflict(f"the folder has {MAX_KEYS} keys: revoke one that is not used any more", code="too_many_keys")
    row = SshKey(
        folder_id=folder.id,
        fingerprint=key.fingerprint,
        public_key=key.line,
        label=label.strip(),
        created_by=actor.id,
        created_at=at,
        expires_at=expires_at,
    )
    tx.add(row)
    tx.flush()
    facts = row.model_dump(include={"folder_id", "fingerprint", "public_key", "expires_at"})
    evidence.record(tx, "key.added", row.id, actor=actor.id, client_id=client_id, **facts)
    return row


def folder_of(tx: Transaction, client_id: str, folder_id: str | None) -> Folder:
    """A folder of the client, its first one if none is named; NotFound."""
    rows = select(Folder).where(Folder.client_id == client_id).order_by(col(Folder.id))
    folder = tx.exec(rows if folder_id is None else rows.where(Folder.id == folder_id)).first()
    if folder is None:
        raise NotFound("no such folder", code="unknown_folder")
    return folder


def _same(known: SshKey, expires_at: dt.datetime | None) -> SshKey:
    if known.revoked_at is not None:
        raise Conflict("this key was revoked: make a new pair", code="key_revoked", key=known.id)
    if known.expires_at != expires_at:
        end = known.expires_at.isoformat() if known.expires_at else "never"
        raise Conflict(f"this key is there already; it expires: {end}", code="key_exists", key=known.id)
    return known


def is_in_use(credential: SshKey | FolderPassword, at: dt.datetime) -> bool:
    """Whether a key or password opens its folder at that instant."""
    return credential.revoked_at is None and (credential.expires_at is None or credential.expires_at > at)


def revoke_key(tx: Transaction, actor: Actor, client_id: str, key_id: str) -> SshKey:
    """Take a key's access away for good; again, it changes nothing. NotFound."""
    client_for(tx, actor, Permission.KEYS_MANAGE, client_id, hold=True)
    key = next((one for one in _of(tx, client_id) if one.id == key_id), None)
    if key is None:
        raise NotFound("no such key", code="unknown_key")
    if key.revoked_at is None:
        key.revoked_at = database.now(tx)
        tx.add(key)
        evidence.record(tx, "key.revoked", key.id, actor=actor.id, fingerprint=key.fingerprint)
    return key


def list_keys(tx: Transaction, actor: Actor, client_id: str) -> list[SshKey]:
    """The keys of a client's folders, in the order of their making; revoked and expired ones too."""
    client_for(tx, actor, Permission.PARTIES_READ, client_id)
    return _of(tx, client_id)


def _of(tx: Transaction, client_id: str) -> list[SshKey]:
    rows = select(SshKey).join(Folder, col(Folder.id) == col(SshKey.folder_id)).where(Folder.client_id == client_id)
    return list(tx.exec(rows.order_by(col(SshKey.id))))
