"""Signed manifests by API: for their client and for operators, byte for byte, and never damaged."""

import asyncio
import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway import clock
from gateway.domain.folders import Folder
from gateway.dropfolder.manifests import ManifestMaker
from gateway.keys import cms
from gateway.sealing import process
from gateway.store.database import Database
from tests.dropfolder.test_manifests import Here
from tests.keys.authority import Authority

from .test_folder import PARIS, published
from .world import World, world


@pytest.fixture
def signed(tmp_path: Path, sqlite: Database) -> Iterator[World]:
    """Two parties; the first one's folder has manifests of three days, and a number in the last."""
    authority = Authority()
    content, password = authority.write_pkcs12(tmp_path, authority.signing_key())
    process.prepare(process.SealSetup(content, password, (authority.write_root(tmp_path),), (), "", 100, "B-B"))
    with world(tmp_path, sqlite) as made:
        published(made, 1)
        began = clock.now() - dt.timedelta(days=3)
        folder = made.parties[0].folder
        made.write(lambda tx: tx.execute(sa.update(Folder).where(Folder.id == folder).values(created_at=began)))  # type: ignore[arg-type]
        maker = ManifestMaker(made.parts.db, made.parts.blobs, PARIS, "Enerdis", Here(), made.parts.pool)  # type: ignore[arg-type]
        while asyncio.run(maker.turn()):
            pass
        yield made


def test_a_client_lists_and_fetches_its_manifests(signed: World) -> None:
    """Page by page; what it gets is what the list says, and the signature is of it."""
    first = signed.ask("GET", "/folder/manifests", "own", params={"limit": 1}).json()
    assert first["folder"] == signed.parties[0].folder and len(first["items"]) == 1
    rest = signed.ask("GET", "/folder/manifests", "own", params={"cursor": first["next_cursor"]}).json()
    assert rest["next_cursor"] is None and len(rest["items"]) >= 1
    for one in [*first["items"], *rest["items"]]:
        manifest = signed.ask("GET", f"/folder/manifests/{one['day']}", "own")
        signature = signed.ask("GET", f"/folder/manifests/{one['day']}/signature", "own")
        assert manifest.headers["content-type"] == "application/json"
        assert signature.headers["content-type"] == "application/pkcs7-signature"
        digest = hashlib.sha256(manifest.content)
        assert (digest.hexdigest(), len(manifest.content)) == (one["sha256"], one["size"])
        assert (manifest.json()["first"], manifest.json()["last"]) == (one["first"], one["last"])
        assert cms.verify(signature.content, digest.digest(), timed=True).certificate is not None
        assert len(signature.content) == one["signature_size"]
        assert one["signature_name"] in signature.headers["content-disposition"]


def test_an_operator_names_the_folder_and_another_client_finds_none(signed: World) -> None:
    """In the same words as a folder, or a day, that is not there."""
    folder = signed.parties[0].folder
    day = signed.ask("GET", "/folder/manifests", "viewer", params={"folder": folder}).json()["items"][0]["day"]
    assert signed.ask("GET", f"/folder/manifests/{day}", "viewer").json()["code"] == "folder_needed"
    assert signed.ask("GET", f"/folder/manifests/{day}", "viewer", params={"folder": folder}).status_code == 200
    for part in ("", "/signature"):
        foreign = signed.ask("GET", f"/folder/manifests/{day}{part}", "foreign", params={"folder": folder})
        assert (foreign.status_code, foreign.json()["code"]) == (404, "unknown_folder")
        none = signed.ask("GET", f"/folder/manifests/{day}{part}", "foreign")
        assert (none.status_code, none.json()["code"]) == (404, "unknown_manifest")
    assert signed.ask("GET", "/folder/manifests", "foreign").json()["items"] == []


@pytest.mark.parametrize("day", ["2026-1-1", "2026-11-24x", "..%2F..", "2026-11-24%0A", "0999-1-011"])
def test_a_day_that_is_none_is_refused(signed: World, day: str) -> None:
    assert signed.ask("GET", f"/folder/manifests/{day}", "own").status_code in (404, 422)


def test_what_the_disk_damaged_is_not_handed_out(signed: World) -> None:
    """A proof of other bytes would be a proof against the issuer."""
    one = signed.ask("GET", "/folder/manifests", "own").json()["items"][0]
    path = signed.parts.blobs.path(one["sha256"])
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"Enerdis", b"enerdis"))
    assert signed.ask("GET", f"/folder/manifests/{one['day']}", "own").status_code == 503
    assert signed.ask("GET", f"/folder/manifests/{one['day']}/signature", "own").status_code == 200
