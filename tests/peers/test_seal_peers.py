"""What other programs say of our seals and duplicates: poppler, qpdf, OpenSSL."""

import datetime as dt
import hashlib
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import clock, invoices
from gateway.keys import cms
from gateway.keys.load import SigningKey
from gateway.sealing import duplicate, pades
from tests.keys.authority import Authority, p256_key
from tests.peers import program, requires
from tests.sealing import documents

REASON = "Facture originale"
SHA256 = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module", params=["rsa", "ecdsa"])
def seal(request: pytest.FixtureRequest, authority: Authority) -> SigningKey:
    return authority.signing_key(p256_key() if request.param == "ecdsa" else None)


@pytest.fixture(scope="module")
def invoice() -> bytes:
    return next(content for _, content in invoices.series(1, dt.date(2026, 3, 2)))


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _pdfsig(content: bytes, folder: Path) -> str:
    path = folder / "sealed.pdf"
    path.write_bytes(content)
    return _run(program("pdfsig"), "-nocert", path)


@requires("pdfsig")
def test_poppler_finds_the_seal_valid_over_the_whole_document(invoice: bytes, seal: SigningKey, tmp_path: Path) -> None:
    """Evince and Okular show what poppler says."""
    said = _pdfsig(pades.seal(invoice, seal, REASON, clock.now()), tmp_path)
    assert said.count("Signature is Valid") == 1
    assert "Total document signed" in said
    assert "ETSI.CAdES.detached" in said
    assert "CN=Cachet" in said


@requires("pdfsig", "qpdf")
@pytest.mark.parametrize("make", documents.ODD, ids=lambda make: make.__name__)
def test_odd_documents_are_valid_for_poppler_and_whole_for_qpdf(
    make: Callable[[], bytes], seal: SigningKey, tmp_path: Path
) -> None:
    """An incremental update leans on the structure that was there before."""
    said = _pdfsig(pades.seal(make(), seal, REASON, clock.now()), tmp_path)
    assert "Signature is Valid" in said
    assert "Total document signed" in said
    _run(program("qpdf"), "--check", tmp_path / "sealed.pdf")


@requires("pdfsig")
def test_poppler_sees_a_change(invoice: bytes, seal: SigningKey, tmp_path: Path) -> None:
    """Its verdict is worth something only if it can be bad."""
    changed = bytearray(pades.seal(invoice, seal, REASON, clock.now()))
    changed[invoice.index(b"stream") + 20] ^= 1
    assert "Signature is Valid" not in _pdfsig(bytes(changed), tmp_path)


@requires("pdfsig", "qpdf")
def test_every_real_document_is_valid_for_poppler_and_whole_for_qpdf(
    samples: Path, seal: SigningKey, tmp_path: Path
) -> None:
    """As tests/sealing/test_samples.py, by programs nobody here wrote."""
    for path in sorted(samples.glob("invoices/*.pdf")):
        said = _pdfsig(pades.seal(path.read_bytes(), seal, REASON, clock.now()), tmp_path)
        assert "Signature is Valid" in said, path.name
        assert "Total document signed" in said, path.name
        _run(program("qpdf"), "--check", tmp_path / "sealed.pdf")


@requires("openssl")
def test_openssl_verifies_the_signature_and_its_chain(authority: Authority, seal: SigningKey, tmp_path: Path) -> None:
    """The CMS by itself, over any content, down to the root."""
    content, der = tmp_path / "content", tmp_path / "signature.der"
    content.write_bytes(b"the document")
    der.write_bytes(cms.sign(seal, hashlib.sha256(b"the document").digest()))
    command = [program("openssl"), "cms", "-verify", "-binary", "-purpose", "any", "-inform", "DER"]
    files: list[str | Path] = [
        "-in",
        der,
        "-content",
        content,
        "-CAfile",
        authority.write_root(tmp_path),
        "-out",
        tmp_path / "out",
    ]
    _run(*command, *files)
    assert (tmp_path / "out").read_bytes() == b"the document"


@requires("openssl")
def test_openssl_verifies_the_seal_as_it_stands_in_the_document(
    authority: Authority, invoice: bytes, seal: SigningKey, tmp_path: Path
) -> None:
    """Cut out with nothing but its range: the way an auditor without any PDF software would check it."""
    sealed = pades.seal(invoice, seal, REASON, clock.now())
    first, second = (int(number) for number in re.findall(rb"/ByteRange \[0 (\d+) (\d+) \d+\]", sealed)[-1])
    content, der = tmp_path / "content", tmp_path / "signature.der"
    content.write_bytes(sealed[:first] + sealed[second:])
    der.write_bytes(bytes.fromhex(sealed[first + 1 : second - 1].decode()))
    command = [program("openssl"), "cms", "-verify", "-binary", "-purpose", "any", "-inform", "DER", "-cades"]
    files: list[str | Path] = [
        "-in",
        der,
        "-content",
        content,
        "-CAfile",
        authority.write_root(tmp_path),
        "-out",
        tmp_path / "out",
    ]
    _run(*command, *files)


@requires("pdftotext", "qpdf")
def test_poppler_reads_the_mark_on_every_page(invoice: bytes, tmp_path: Path) -> None:
    """What a full-text search, or a screen reader, finds."""
    path = tmp_path / "duplicate.pdf"
    path.write_bytes(duplicate.stamp(invoice, SHA256, "fr"))
    _run(program("qpdf"), "--check", path)
    pages = _run(program("pdftotext"), path, "-").split("\f")[:-1]
    assert len(pages) == 3
    assert all("DUPLICATA" in page and SHA256 in page for page in pages)


@requires("pdftotext")
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("box", [(0, 0, 595, 842), (100, 200, 695, 1042), (-300, -400, 295, 442)])
def test_poppler_shows_the_line_upright_at_the_foot_of_the_page(
    rotation: int, box: tuple[int, int, int, int], tmp_path: Path
) -> None:
    """Pages are turned and their boxes begin anywhere; the reader holds the sheet one way."""
    pdf = documents.blank()
    pdf.pages[0].obj.MediaBox = list(box)
    pdf.pages[0].obj.Rotate = rotation
    path = tmp_path / "duplicate.pdf"
    path.write_bytes(duplicate.stamp(documents.saved(pdf), SHA256, "fr"))
    found = _run(program("pdftotext"), "-bbox", path, "-")
    width, height = (842, 595) if rotation % 180 else (595, 842)
    left, top, right, bottom = _numbers(
        r'<word xMin="([-\d.]+)" yMin="([-\d.]+)" xMax="([-\d.]+)" yMax="([-\d.]+)">' + SHA256, found
    )
    assert 0 <= left < right <= width
    assert height - 25 < top < bottom <= height


def _numbers(pattern: str, text: str) -> tuple[float, ...]:
    found = re.search(pattern, text)
    assert found is not None, text
    return tuple(float(number) for number in found.groups())
