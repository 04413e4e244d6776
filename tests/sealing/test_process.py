import datetime as dt
import hashlib
import json
import multiprocessing
import pickle
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pikepdf
import pytest

from gateway import errors
from gateway.config import SealSettings
from gateway.keys.load import SigningKey
from gateway.keys.trust import Trust
from gateway.sealing import pades, process, verify
from tests.keys.authority import YEAR, Authority, p256_key, write_pem
from tests.sealing import documents, foreign


@pytest.fixture
def setup(authority: Authority, rsa_seal: SigningKey, tmp_path: Path) -> process.SealSetup:
    content, password = authority.write_pkcs12(tmp_path, rsa_seal)
    return process.SealSetup(content, password, (authority.write_root(tmp_path),), (), "Facture originale", 100, "B-B")


@pytest.fixture
def source(tmp_path: Path, invoice: bytes) -> Path:
    path = tmp_path / "received"
    path.write_bytes(invoice)
    return path


Seal = Callable[[process.SealSetup], process.SealResult]


@pytest.fixture
def seal(source: Path, tmp_path: Path) -> Seal:
    """Start this process anew with a setup, and seal the source."""

    def run(setup: process.SealSetup) -> process.SealResult:
        process.prepare(setup)
        return process.seal_file(*_paths(source, tmp_path / "sealed"))

    return run


def _paths(source: Path, target: Path) -> tuple[str, str, str]:
    return str(source), str(target), hashlib.sha256(source.read_bytes()).hexdigest()


def _waits(seal: Seal, setup: process.SealSetup) -> errors.Unavailable:
    with pytest.raises(errors.Unavailable) as caught:
        seal(setup)
    return caught.value


def test_a_worker_process_seals_and_answers_with_facts(
    setup: process.SealSetup, source: Path, tmp_path: Path, invoice: bytes, rsa_seal: SigningKey, trust: Trust
) -> None:
    """Spawned, as in the daemon: everything that passes between the processes can be sent."""
    context = multiprocessing.get_context("spawn")
    target = tmp_path / "sealed"
    with ProcessPoolExecutor(1, mp_context=context, initializer=process.start, initargs=(setup,)) as worker:
        result = worker.submit(process.seal_file, *_paths(source, target)).result()
    sealed = target.read_bytes()
    assert result.sha256 == hashlib.sha256(sealed).hexdigest()
    assert result.size == len(sealed)
    assert (result.level, result.made_by) == ("B-B", "gateway")
    assert (result.signer, result.signer_issuer) == (rsa_seal.subject, rsa_seal.issuer)
    assert (result.signer_serial, result.certificate_sha256) == (rsa_seal.serial, rsa_seal.certificate_sha256)
    assert json.loads(json.dumps(result.verification)) == result.verification
    verify.verify(sealed, invoice, (rsa_seal.certificate, *rsa_seal.chain), trust, result.sealed_at)


def test_the_setup_comes_from_the_settings_and_can_be_sent(setup: process.SealSetup) -> None:
    """Paths and plain values only: each process opens its own key."""
    settings = SealSettings(
        certificate=setup.certificate, password_file=setup.password_file, trust=setup.trust, verify_sample=100
    )
    assert process.SealSetup.of(settings) == setup
    assert pickle.loads(pickle.dumps(setup)) == setup


def test_the_first_of_each_worker_and_one_in_so_many_are_validated_twice(
    setup: process.SealSetup, source: Path, tmp_path: Path
) -> None:
    """Our verifier sees all of them; pyHanko's is ten times slower."""
    process.prepare(replace(setup, verify_sample=3))
    results = [process.seal_file(*_paths(source, tmp_path / f"sealed-{turn}")) for turn in range(5)]
    validated = ["full_validation" in result.verification for result in results]
    assert validated == [True, False, False, True, False]


def test_a_document_of_the_issuer_is_kept_as_it_is(
    setup: process.SealSetup, authority: Authority, source: Path, tmp_path: Path, invoice: bytes, seal: Seal
) -> None:
    """Nothing is written; the digest is the source's."""
    issuer = authority.signing_key(p256_key(), "Facturation")
    source.write_bytes(pades.seal(invoice, issuer, "Facture", authority.now))
    configured = replace(setup, issuer_certificates=(write_pem(tmp_path / "issuer.pem", issuer.certificate),))
    result = seal(configured)
    assert (result.made_by, result.certificate_sha256) == ("issuer", issuer.certificate_sha256)
    assert result.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert result.sealed_at == authority.now
    assert not (tmp_path / "sealed").exists()


def test_a_document_of_the_issuer_needs_no_key_of_ours(
    setup: process.SealSetup, authority: Authority, source: Path, tmp_path: Path, invoice: bytes, seal: Seal
) -> None:
    """It waits for nothing."""
    issuer = authority.signing_key(p256_key(), "Facturation")
    source.write_bytes(pades.seal(invoice, issuer, "Facture", authority.now))
    certificates = (write_pem(tmp_path / "issuer.pem", issuer.certificate),)
    result = seal(replace(setup, certificate=None, issuer_certificates=certificates))
    assert result.made_by == "issuer"


def test_what_our_own_key_sealed_gets_no_second_seal_by_it(
    setup: process.SealSetup, rsa_seal: SigningKey, source: Path, invoice: bytes, seal: Seal
) -> None:
    """The billing system may hold the same key; it is the issuer's, wherever it seals."""
    source.write_bytes(pades.seal(invoice, rsa_seal, "Facture", dt.datetime.now(dt.UTC)))
    assert seal(setup).made_by == "issuer"


def test_a_document_signed_by_somebody_else_is_sealed_and_always_validated(
    setup: process.SealSetup, source: Path, invoice: bytes, seal: Seal
) -> None:
    """Both signatures must be good in what leaves."""
    stranger = Authority(label="Other").signing_key(p256_key(), "Somebody")
    source.write_bytes(foreign.sign(invoice, stranger))
    result = seal(setup)
    assert result.made_by == "gateway"
    assert result.verification["full_validation"]["signatures"] == 2


def test_a_broken_signature_is_refused(
    setup: process.SealSetup, authority: Authority, source: Path, tmp_path: Path, invoice: bytes, seal: Seal
) -> None:
    """It is not sealed over."""
    signed = bytearray(pades.seal(invoice, authority.signing_key(p256_key()), "Facture", authority.now))
    signed[invoice.index(b"stream") + 20] ^= 1
    source.write_bytes(signed)
    with pytest.raises(errors.Refused) as caught:
        seal(setup)
    assert caught.value.code == "signature_broken"
    assert not (tmp_path / "sealed").exists()


def test_without_a_key_documents_wait(setup: process.SealSetup, seal: Seal) -> None:
    """Not configured yet is no reason to refuse an invoice."""
    assert _waits(seal, replace(setup, certificate=None)).code == "no_key"


@pytest.mark.parametrize("missing", ["certificate", "password_file"])
def test_a_missing_file_makes_documents_wait_and_names_it_without_its_folder(
    setup: process.SealSetup, missing: str, tmp_path: Path, seal: Seal
) -> None:
    """The reason stands on the console; paths of the host do not."""
    nowhere = tmp_path / "nowhere"
    changed = replace(setup, certificate=nowhere) if missing == "certificate" else replace(setup, password_file=nowhere)
    error = _waits(seal, changed)
    assert error.code == "no_key"
    assert "nowhere: No such file" in error.message
    assert str(tmp_path) not in error.message


def test_a_missing_root_makes_documents_wait(setup: process.SealSetup, tmp_path: Path, seal: Seal) -> None:
    """Without roots nothing can be verified, so nothing leaves."""
    assert _waits(seal, replace(setup, trust=(tmp_path / "nowhere.pem",))).code == "no_key"
    assert _waits(seal, replace(setup, trust=())).code == "no_key"


def test_an_expired_key_makes_documents_wait_until_its_file_is_replaced(
    setup: process.SealSetup, authority: Authority, source: Path, tmp_path: Path, seal: Seal
) -> None:
    """The renewed key is used without a restart."""
    expired = authority.signing_key(p256_key(), starts=-2 * YEAR, ends=-YEAR)
    renewed = authority.signing_key(p256_key())
    content, password = authority.write_pkcs12(tmp_path, expired, "renewed")
    assert _waits(seal, replace(setup, certificate=content, password_file=password)).code == "key_expired"
    authority.write_pkcs12(tmp_path, renewed, "renewed")
    result = process.seal_file(*_paths(source, tmp_path / "sealed"))
    assert result.certificate_sha256 == renewed.certificate_sha256


def test_a_key_of_an_unknown_authority_makes_documents_wait(
    setup: process.SealSetup, tmp_path: Path, seal: Seal
) -> None:
    """Its seals would not verify: better none than those."""
    other = Authority(label="Other")
    content, password = other.write_pkcs12(tmp_path, other.signing_key(p256_key()), "other")
    assert _waits(seal, replace(setup, certificate=content, password_file=password)).code == "no_key"


def test_nothing_is_sealed_below_the_level(setup: process.SealSetup, seal: Seal) -> None:
    """B-T without a time-stamp is B-B, and not what was asked for."""
    assert _waits(seal, replace(setup, level="B-T")).code == "no_timestamp"


def test_a_missing_source_is_not_found(setup: process.SealSetup, tmp_path: Path) -> None:
    """The store has lost a blob: that document is held, the others go on."""
    process.prepare(setup)
    with pytest.raises(errors.NotFound):
        process.seal_file(str(tmp_path / "nowhere"), str(tmp_path / "sealed"), "0" * 64)


def test_bytes_that_changed_in_the_store_are_neither_sealed_nor_stamped(
    setup: process.SealSetup, source: Path, tmp_path: Path
) -> None:
    """A digit that a failing disk changed would be sealed as if the issuer had written it."""
    _, target, sha256 = _paths(source, tmp_path / "made")
    source.write_bytes(source.read_bytes().replace(b"/Rotate 0", b"/Rotate 9") + b"\n")
    process.prepare(setup)
    for call in (
        lambda: process.seal_file(str(source), target, sha256),
        lambda: process.stamp_file(str(source), target, sha256, "fr"),
    ):
        with pytest.raises(errors.Refused) as caught:
            call()
        assert caught.value.code == "bytes_changed"
        assert not (tmp_path / "made").exists()


def test_a_worker_has_a_limit_of_memory(setup: process.SealSetup, source: Path, tmp_path: Path) -> None:
    """Half a megabyte that inflates to 2 GB: sealed as the file that it is, and never unpacked."""
    source.write_bytes(documents.with_a_file_that_inflates(2000))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), process.start, (setup,)) as worker:
        result = worker.submit(process.seal_file, *_paths(source, tmp_path / "sealed")).result()
        status = worker.submit(Path("/proc/self/status").read_text).result()  # getrusage counts the parent's, too
        limit = worker.submit(resource.getrlimit, resource.RLIMIT_AS).result()[0]
    assert result.made_by == "gateway"
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    assert int(peak) < 500_000  # KB
    assert limit == 1 << 30


def test_no_room_for_the_result_makes_documents_wait(setup: process.SealSetup, source: Path, tmp_path: Path) -> None:
    """A full disk is nobody's fault but the disk's."""
    process.prepare(setup)
    with pytest.raises(errors.Unavailable):
        process.seal_file(*_paths(source, tmp_path / "no such folder" / "sealed"))


def test_an_encrypted_document_is_refused(setup: process.SealSetup, source: Path, seal: Seal) -> None:
    """The intake refuses it first; the sealing does not count on that."""
    source.write_bytes(documents.saved(documents.blank(), encryption=pikepdf.Encryption(owner="x", user="")))
    with pytest.raises(errors.Refused) as caught:
        seal(setup)
    assert caught.value.code == "encrypted"


def test_the_time_is_the_clocks(
    setup: process.SealSetup, seal: Seal, monkeypatch: pytest.MonkeyPatch, authority: Authority
) -> None:
    """One clock for the whole gateway."""
    at = authority.now + dt.timedelta(days=3)
    monkeypatch.setattr("gateway.clock.time.time", at.timestamp)
    assert seal(setup).sealed_at == at


def test_a_duplicate_is_written_and_named(source: Path, tmp_path: Path, setup: process.SealSetup) -> None:
    """Its own digest and size, for its row and its blob; no key is needed."""
    received = hashlib.sha256(source.read_bytes()).hexdigest()
    target = tmp_path / "duplicate"
    sha256, size = process.stamp_file(str(source), str(target), received, "fr")
    written = target.read_bytes()
    assert (hashlib.sha256(written).hexdigest(), len(written)) == (sha256, size)
    assert sha256 != received
