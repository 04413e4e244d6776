"""Real documents: every PDF among them is sealed and stamped, and nobody finds fault with the result."""

import datetime as dt
from io import BytesIO
from pathlib import Path
from typing import Any

import pikepdf
import pypdf

from gateway.keys.load import SigningKey
from gateway.keys.trust import Trust
from gateway.sealing import document, duplicate, pades, validate, verify

SHA256 = "0123456789abcdef" * 4


def test_every_real_document_is_sealed_and_valid_for_both_verifiers(
    samples: Path, seal: SigningKey, trust: Trust, now: dt.datetime
) -> None:
    """Whoever wrote it; those that are bad invoices too are sound PDFs."""
    paths = sorted(samples.glob("invoices/*.pdf"))
    assert paths
    for path in paths:
        received = path.read_bytes()
        sealed = pades.seal(received, seal, "Facture originale", now)
        record = verify.verify(sealed, received, (seal.certificate, *seal.chain), trust, now)
        validated = validate.full_validate(sealed, trust, now)
        assert set(record["checks"].values()) == {"passed"}, path.name
        assert validated["summary"] == "INTACT:TRUSTED,UNTOUCHED", path.name


def test_every_object_of_a_real_document_stays_what_it_was(
    samples: Path, rsa_seal: SigningKey, now: dt.datetime
) -> None:
    """All but the catalog and the first page's list of annotations."""
    for path in sorted(samples.glob("invoices/*.pdf")):
        received = path.read_bytes()
        sealed = pades.seal(received, rsa_seal, "Facture originale", now)
        with pikepdf.open(BytesIO(received)) as before, pikepdf.open(BytesIO(sealed)) as after:
            was, becomes = _objects(before), _objects(after)
            changed = {objgen for objgen, content in was.items() if becomes.get(objgen) != content}
            assert changed <= {before.Root.objgen, before.pages[0].obj.objgen}, path.name


def _objects(pdf: pikepdf.Pdf) -> dict[tuple[int, int], tuple[bytes, bytes]]:
    """Every object of the file; qpdf adds some of its own when it looks at pages, with numbers from /Size on."""
    objects: list[Any] = list(pdf.objects)  # a number, a boolean or null comes as Python's own
    return {
        one.objgen: (one.unparse(resolved=True), one.read_raw_bytes() if isinstance(one, pikepdf.Stream) else b"")
        for one in objects
        if isinstance(one, pikepdf.Object) and one.objgen[0] < int(pdf.trailer.Size)
    }


def test_every_page_of_every_real_document_is_marked(samples: Path) -> None:
    """And no file is left inside."""
    for path in sorted(samples.glob("invoices/*.pdf")):
        received = path.read_bytes()
        stamped = duplicate.stamp(received, SHA256, "fr")
        with pikepdf.open(BytesIO(stamped)) as after:
            assert document.embedded_files(after) == (), path.name
            assert not after.check_pdf_syntax(), path.name
        pages = pypdf.PdfReader(BytesIO(stamped)).pages
        assert len(pages) == len(pypdf.PdfReader(BytesIO(received)).pages), path.name
        assert all("DUPLICATA" in page.extract_text() and SHA256 in page.extract_text() for page in pages), path.name
