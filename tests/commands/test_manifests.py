"""`gateway manifest verify`: what an auditor runs, and what it answers a script."""

import asyncio
import datetime as dt
import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlmodel import col

from gateway import clock, config
from gateway.domain.folders import Folder
from gateway.dropfolder.manifests import ManifestMaker
from gateway.pools import ThreadPool
from gateway.sealing import process
from gateway.store import state
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database
from tests.dossier.test_manifest_chain import AUTHORITY, KEY, _write, days, sources
from tests.dropfolder.test_manifests import Here
from tests.dropfolder.world import PARIS
from tests.keys.authority import Authority
from tests.test_cli import Gateway, gateway, settings_file

__all__ = ["gateway", "settings_file"]


@pytest.fixture
def pulled(tmp_path: Path) -> Path:
    """What a client pulled: two days, three numbers."""
    return _write(tmp_path / "manifest", sources(days(1, 2)))


def test_it_needs_no_gateway_and_no_settings(gateway: Gateway, settings_file: Path, pulled: Path) -> None:
    """An auditor has the files and a certificate."""
    settings_file.unlink()
    root = AUTHORITY.write_root(pulled.parent)
    code, out, err = gateway("manifest", "verify", pulled, "--ca", root)
    assert (code, err) == (0, "")
    assert "folder fld_1 of Enerdis: 2 manifests, 2026-11-01 to 2026-11-02, numbers 1 to 3" in out
    assert out.rstrip().endswith("nothing is missing")


def test_each_thing_that_is_wrong_is_a_sentence_and_the_status_is_1(gateway: Gateway, pulled: Path) -> None:
    """A script must notice; a person reads what."""
    (pulled / "manifest-2026-11-01.json.p7s").write_bytes(b"\x30\x00")
    documents = pulled.parent / "documents"
    documents.mkdir()
    for number in (2, 3):
        (documents / f"F{number}_ORIG.pdf").write_bytes(b"%d" % number)
    code, out, _ = gateway("manifest", "verify", pulled, "--entries", documents)
    assert code == 1 and "wrong manifest-2026-11-01.json " in out and "not proven: 1 thing wrong" in out
    assert "2 documents on disk as published" in out
    code, out, _ = gateway("manifest", "verify", pulled, "--json")
    told = json.loads(out)
    assert (code, told["holds"], [one["file"] for one in told["findings"] if one["is_wrong"]]) == (
        1, False, ["manifest-2026-11-01.json"]
    )  # fmt: skip


@pytest.mark.parametrize("words", [(), ("nowhere",), (".", "--folder", "fld_1")])
def test_nothing_to_verify_is_2(gateway: Gateway, words: tuple[str, ...]) -> None:
    """Not proven is another thing than not asked."""
    assert gateway("manifest", "verify", *words)[0] == 2


def test_a_folder_is_named_by_its_client(gateway: Gateway) -> None:
    """Its own id stands in no table that a person reads first."""
    assert gateway("client", "add", "Apuron")[0] == 0
    code, out, err = gateway("manifest", "verify", "--folder", "apuron")
    assert (code, err) == (2, ""), out
    code, _, err = gateway("manifest", "verify", "--folder", "Nobody")
    assert code == 1 and "gateway client list" in err


def test_a_directory_without_a_manifest_is_2_and_says_so(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, out, _ = gateway("manifest", "verify", tmp_path / "empty")
    assert (code, out.strip()) == (2, "no manifest there: that of a day is made once the day is over")


def test_what_a_hostile_manifest_says_does_not_steer_the_terminal(gateway: Gateway, tmp_path: Path) -> None:
    """Its author may have signed it."""
    found = days(1)
    found[0]["issuer"] = "\x1b]0;owned\x07[red]Enerdis[/]"
    code, out, _ = gateway("manifest", "verify", _write(tmp_path / "manifest", sources(found)))
    assert code == 0 and "\x1b" not in out and "[red]Enerdis[/]" in out


def _signed_days(settings_file: Path, tmp_path: Path) -> tuple[str, Path]:
    """The only folder's id, and the root of its manifests of three days, which this process makes."""
    authority = Authority()
    content, password = authority.write_pkcs12(tmp_path, authority.signing_key())
    root = authority.write_root(tmp_path)
    process.prepare(process.SealSetup(content, password, (root,), (), "", 100, "B-B"))
    store = config.load(settings_file).store
    db, pool = Database.open(state.database_url(store)), ThreadPool("work", 2)
    began = clock.now() - dt.timedelta(days=3)
    db.write(lambda tx: tx.execute(sa.update(Folder).values(created_at=began)))
    folder: str = db.read(lambda tx: tx.execute(sa.select(col(Folder.id))).scalar_one())
    maker = ManifestMaker(db, LocalBlobs(store.directory / "blobs"), PARIS, "Enerdis", Here(), pool)  # type: ignore[arg-type]
    while asyncio.run(maker.turn()):
        pass
    pool.close()
    db.close()
    return folder, root


def test_a_folder_is_checked_against_the_gateway_s_own_database(
    gateway: Gateway, settings_file: Path, tmp_path: Path
) -> None:
    """Its manifests, and that each number is still what they say."""
    gateway("client", "add", "Apuron")
    folder, root = _signed_days(settings_file, tmp_path)
    code, out, err = gateway("manifest", "verify", "--folder", folder, "--ca", root)
    assert code == 0 and "no number" in out and "nothing is missing" in out, out + err
    code, out, err = gateway("manifest", "verify", "--folder", "fld_" + "0" * 26, "--ca", root)
    assert (code, out) == (1, "") and "no such folder" in err


def test_the_certificate_in_the_signature_is_named(gateway: Gateway, pulled: Path) -> None:
    """Without `--ca` a reader compares its SHA-256 with what the issuer says elsewhere."""
    _, out, _ = gateway("manifest", "verify", pulled / "manifest-2026-11-02.json")
    assert KEY.certificate_sha256 in out and "no certificate was given" in out
