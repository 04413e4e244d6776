"""The PDF itself: taken as its producer wrote it, or refused with what is wrong; never half-read."""

import datetime as dt
import io
import os
import re
import time
import zlib
from decimal import Decimal
from pathlib import Path

import facturx
import pikepdf
import pytest
from reportlab.pdfgen import canvas

from gateway.domain.states import Kind
from gateway.errors import Refused, TooLarge
from gateway.intake import read, sidecar
from gateway.intake.facts import Facts
from tests.intake import makers
from tests.intake.makers import CATALOG, LIMITS, PAGE, PAGES, TODAY, factur_x, pdf, raw_pdf

PLAIN = sidecar.parse(
    b'{"kind": "invoice", "number": "F1", "issue_date": "2026-09-01", "contract": "C-1", "seller_siren": "123456782"}'
)


@pytest.fixture(scope="module", autouse=True)
def _limits() -> None:
    read.prepare()


def reading(document: bytes, beside: sidecar.Sidecar | None = None) -> read.Reading:
    return read.read(document, beside, LIMITS, TODAY)[0]


def refusal(document: bytes, beside: sidecar.Sidecar | None = None) -> Refused:
    """How it is refused, within a second whatever it is."""
    started = time.process_time()
    with pytest.raises(Refused) as caught:
        read.read(document, beside, LIMITS, TODAY)
    assert time.process_time() - started < 1
    return caught.value


def test_a_factur_x_pdf_says_all_its_facts() -> None:
    """Also what was checked and what was not: no report claims more than ran."""
    got, xml = read.read(factur_x(), None, LIMITS, TODAY)
    assert xml == makers.invoice_xml().encode()
    assert got.facts == Facts(
        kind=Kind.INVOICE,
        number="F2026-0042",
        issue_date=dt.date(2026, 9, 1),
        contract="CARD-S-000123",
        type_code="380",
        seller="123456782",
        seller_name="Réseau Électrique",
        buyer="534010764",
        buyer_name="APURON PV 2",
        currency="EUR",
        total=Decimal("120.00"),
        due=Decimal("120.00"),
        period_start=dt.date(2026, 8, 1),
        period_end=dt.date(2026, 8, 31),
        profile="factur-x basicwl",
        xml_name="factur-x.xml",
        pages=1,
        layers_ran=("pdf", "xsd"),
        layers_skipped=("en16931", "br-fr"),
    )
    assert got.quarantine is None


def test_the_digests_are_of_the_bytes_that_came_and_of_the_xml_as_it_is_embedded() -> None:
    """receive.py compares them with what the store keeps."""
    document = factur_x()
    got, xml = read.read(document, None, LIMITS, TODAY)
    assert xml is not None
    assert (got.sha256, got.size) == (makers.sha256(document), len(document))
    assert (got.xml_sha256, got.xml_size) == (makers.sha256(xml), len(xml))


def test_a_pdf_made_by_the_reference_library_is_read() -> None:
    """reportlab's pages, factur-x's packing: what many billing systems do."""
    out = io.BytesIO()
    page = canvas.Canvas(out)
    page.drawString(100, 700, "Facture")
    page.showPage()
    page.showPage()
    page.save()
    made = facturx.generate_from_binary(
        out.getvalue(), makers.invoice_xml().encode(), check_xsd=False, check_schematron=False
    )
    facts = reading(made).facts
    assert (facts.number, facts.pages, facts.warnings) == ("F2026-0042", 2, ())


def test_any_pdf_with_a_sidecar_is_read() -> None:
    """No XML inside: nothing of it was checked, and the layers say so."""
    facts = reading(pdf(pages=3), PLAIN).facts
    assert (facts.number, facts.pages, facts.profile, facts.xml_name) == ("F1", 3, "", "")
    assert facts.layers_ran == ("pdf",) and "xsd" in facts.layers_skipped


def test_an_object_stream_is_read_too() -> None:
    """PDF 1.5 packs its objects; most producers use it."""
    packed = makers.saved(makers.opened(factur_x()), object_stream_mode=pikepdf.ObjectStreamMode.generate)
    assert b"/ObjStm" in packed
    assert reading(packed).facts.number == "F2026-0042"


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"", "empty"),
        (b"%", "not_pdf"),
        (b"\x00", "not_pdf"),
        (b"PK\x03\x04" + b"\x00" * 500, "not_pdf"),
        (b"\n" + factur_x(), "not_pdf"),  # offsets that are off by one: a seal could not be appended
        (b"<!DOCTYPE html><html></html>", "not_pdf"),
        (b"%PDF-1.7\n", "truncated"),
        (b"%PDF-1.7\n%%EOF", "pdf_damaged"),
    ],
)
def test_what_is_no_pdf_is_refused(document: bytes, code: str) -> None:
    """0 bytes, 1 byte, another format."""
    assert refusal(document, PLAIN).code == code


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_bare_xml_is_refused_with_what_to_do_instead(encoding: str) -> None:
    """It is not a broken PDF; the sender must know that its PDF is wanted."""
    error = refusal(makers.invoice_xml().encode(encoding))
    assert error.code == "bare_xml" and "send the Factur-X PDF" in error.message
    undeclared = makers.invoice_xml(prolog="").strip().encode(encoding)
    assert refusal(undeclared).code == "bare_xml"


@pytest.mark.parametrize("part", [0.01, 0.25, 0.5, 0.75, 0.99])
def test_a_pdf_that_was_cut_off_is_refused(part: float) -> None:
    """An upload that broke: what is left often still opens in a reader that repairs."""
    document = factur_x()
    assert refusal(document[: int(len(document) * part)]).code == "truncated"


def test_a_cut_is_seen_although_an_attachment_ends_in_an_end_mark() -> None:
    """A PDF inside the PDF, not deflated, brings its own %%EOF."""
    inner = pdf()
    outer = pdf({"annexe.pdf": inner, "factur-x.xml": makers.invoice_xml().encode()})
    plain = makers.saved(
        makers.opened(outer), stream_decode_level=pikepdf.StreamDecodeLevel.generalized, compress_streams=False
    )
    end_of_inner = plain.index(inner) + len(inner)
    assert refusal(plain[:end_of_inner]).code == "pdf_damaged"


def test_a_linearized_pdf_that_was_cut_off_is_refused() -> None:
    """Its first cross-reference and an end mark stand near its beginning."""
    whole = makers.saved(makers.opened(pdf(pages=20)), linearize=True)
    assert reading(whole, PLAIN).facts.pages == 20
    assert refusal(whole[: len(whole) // 2], PLAIN).code in ("truncated", "pdf_damaged")


def test_a_hole_in_the_middle_is_refused() -> None:
    """A lost block of an upload that was written out of order: zeros, and a good end."""
    document = bytearray(factur_x())
    start = document.index(b"/Type /Page ") - 40
    document[start : start + 200] = bytes(200)
    assert refusal(bytes(document)).code == "pdf_damaged"


@pytest.mark.parametrize(
    "spoil",
    [(rb"startxref\n\d+", b"startxref\n7"), (rb"(?m)^xref$", b"xruf"), (rb"\d{10} 00000 n", b"0000000003 00000 n")],
)
def test_a_cross_reference_that_would_have_to_be_rebuilt_is_refused(spoil: tuple[bytes, bytes]) -> None:
    """The seal is appended to it; and what was rebuilt may be half a document."""
    assert refusal(re.sub(*spoil, factur_x())).code in ("pdf_damaged", "truncated")


def test_small_faults_that_readers_take_are_accepted_with_a_warning() -> None:
    """A stream length that is off by some bytes, a /Size that is too high: old producers."""
    wrong = raw_pdf(CATALOG, PAGES, PAGE, b"<< /Length 3 >>\nstream\nlonger\nendstream").replace(b"/Size 5", b"/Size 9")
    facts = reading(wrong, PLAIN).facts
    assert any("stream length" in warning for warning in facts.warnings)
    assert any("number of objects" in warning for warning in facts.warnings)
    assert not any("_io" in warning or "stream <" in warning for warning in facts.warnings)


@pytest.mark.parametrize("spoilt", [b"<41\x01>", b"<< 7 \x1b[31m 1 >>", b"\xe2\x80\xae", b"5 0 obj"])
def test_a_message_about_damage_is_printable_and_names_no_place_of_ours(spoilt: bytes) -> None:
    """It quotes the document, and goes to terminals, logs and the sender."""
    message = refusal(raw_pdf(CATALOG, PAGES, PAGE, spoilt), PLAIN).message
    assert message.isprintable() and message.isascii() and "stream <" not in message


def test_bytes_after_the_end_mark_are_tolerated_within_reason() -> None:
    """Mail gateways append line ends; a kilobyte of something else is no line end."""
    assert reading(factur_x() + b"\r\n" * 10).facts.number == "F2026-0042"
    refused = refusal(factur_x() + b"\x00" * 2000)
    assert refused.code == "truncated"
    assert "200" in refused.message and "follow" in refused.message


def test_an_update_that_is_cut_off_is_refused_however_short_it_is() -> None:
    """What stood before it is whole and was not meant: some readers show that, others what is left of the update."""
    before = factur_x()
    start = int(before.rpartition(b"startxref")[2].split()[0])
    update = b"9 0 obj\n<< /Length 0 >>\nendobj\nxref\n9 1\n%010d 00000 n \n" % len(before)
    update += b"trailer\n<< /Size 10 /Root 1 0 R /Prev %d >>\nstartxref\n%d\n%%%%EO" % (start, len(before) + 31)
    for end in (3, 12, 40, len(update)):
        assert refusal(before + update[:end]).code == "truncated", update[:end]


@pytest.mark.parametrize("password", ["", "secret"])
def test_an_encrypted_pdf_is_refused(password: str) -> None:
    """Also with an empty user password: the client's software might not open it, and no seal goes on it."""
    locked = makers.saved(makers.opened(factur_x()), encryption=pikepdf.Encryption(owner="owner", user=password))
    assert refusal(locked).code == "encrypted"


def test_more_pages_than_allowed_are_refused() -> None:
    """The setting's limit, to the page."""
    limits = makers.limits(max_pages=3)
    assert read.read(pdf(pages=3), PLAIN, limits, TODAY)[0].facts.pages == 3
    with pytest.raises(TooLarge, match="more than 3 pages"):
        read.read(pdf(pages=4), PLAIN, limits, TODAY)


@pytest.mark.parametrize(
    "tree",
    [
        [b"<< /Type /Pages /Kids [3 0 R] /Count 1000000 >>", PAGE],
        [b"<< /Type /Pages /Kids [" + b"3 0 R " * 150_000 + b"] /Count 1 >>", PAGE],
        [b"<< /Type /Pages /Kids [" + b"3 0 R " * 1_000_000 + b"] /Count 1000000 >>", PAGE],
        [b"<< /Type /Pages /Kids [2 0 R 3 0 R] /Count 2 >>", PAGE],
        [b"<< /Type /Pages /Kids [3 0 R 3 0 R] /Count 1 >>", b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>", PAGE],
        [b"<< /Type /Pages /Kids [9 0 R] /Count 1 >>"],
        [b"<< /Type /Pages /Kids [] /Count 0 >>"],
        [b"<< /Type /Pages /Kids [3 0 R 42] /Count 2 >>", PAGE],
        [b"<< /Type /Pages /Kids [%d 0 R] /Count 1 >>" % (number + 1) for number in range(2, 80)] + [PAGE],
        [b"<< /Type /Pages /Kids [%d 0 R] /Count 1 >>" % (number + 1) for number in range(2, 5000)] + [PAGE],
    ],
    ids=["claim", "repeats", "million", "circle", "diamond", "missing", "none", "number", "deep", "very deep"],
)
def test_a_hostile_page_tree_is_refused(tree: list[bytes]) -> None:
    """A million pages, claimed or real; recursion; pages that are not there."""
    assert refusal(raw_pdf(CATALOG, *tree), PLAIN).code in ("too_many_pages", "pdf_damaged", "too_complex")


@pytest.mark.parametrize(
    "hostile",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b"<< /A " * 100_000 + b">>" * 100_000,
        b"<< /Length 4 0 R >>\nstream\nx\nendstream",
    ],
    ids=["arrays", "dictionaries", "length of itself"],
)
def test_an_object_that_is_built_to_exhaust_a_parser_is_refused(hostile: bytes) -> None:
    """Nesting, a length that refers to itself."""
    assert refusal(raw_pdf(CATALOG, PAGES, PAGE, hostile), PLAIN).code in ("pdf_damaged", "too_complex")


def test_an_object_stream_that_inflates_without_end_is_refused_with_bounded_memory() -> None:
    """500 MB in 500 KB: the objects in it would be null for us, and there for another reader."""
    bomb = makers.with_object_stream(makers.deflate_bomb(500, b"5 0 << /S /JavaScript >>"))
    assert len(bomb) < 1_000_000
    assert refusal(bomb, PLAIN).code in ("too_complex", "pdf_damaged")


def test_a_document_of_another_kind_is_read_without_its_xml() -> None:
    """A contract's PDF may hold anything; only what runs is of interest."""
    contract = sidecar.parse(b'{"kind": "contract", "number": "K1", "issue_date": "2026-01-01", "contract": "C-1"}')
    got, xml = read.read(pdf({"a.xml": b"<broken", "b.xml": b"<a/>"}), contract, LIMITS, TODAY)
    assert (got.facts.kind, got.facts.number, xml, got.facts.layers_ran) == (Kind.CONTRACT, "K1", None, ("pdf",))


def test_broken_metadata_is_a_warning() -> None:
    """The invoice is no worse for it, and its readers do not look at it."""
    for xmp in (b"<x:xmpmeta", b"", b"\xff" * 50, zlib.compress(b"x")):
        (warning,) = reading(pdf({"factur-x.xml": makers.invoice_xml().encode()}, xmp=xmp)).facts.warnings
        assert "XMP" in warning


def test_metadata_that_contradicts_the_xml_is_a_warning() -> None:
    """`no thing` is no level: seen in a real file."""
    (warning,) = reading(factur_x(level="no thing")).facts.warnings
    assert "'no thing'" in warning and "basicwl" in warning


def test_metadata_with_a_dtd_is_refused() -> None:
    """Whoever opens the document next would expand it."""
    assert refusal(pdf(xmp=b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>'), PLAIN).code == "dtd"


@pytest.mark.parametrize("part", [0.5])
def test_every_real_pdf_cut_in_half_is_refused(samples: Path, part: float) -> None:
    """What real producers write, not what these tests make."""
    for path in sorted((samples / "invoices").glob("*.pdf")):
        whole = path.read_bytes()
        with pytest.raises(Refused) as caught:
            read.read(whole[: int(len(whole) * part)], PLAIN, LIMITS, TODAY)
        assert caught.value.code in ("truncated", "pdf_damaged"), path.name


def test_reading_leaves_no_descriptor_open() -> None:
    """A worker reads thousands."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        reading(factur_x())
        refusal(factur_x()[:-200])
    assert len(os.listdir("/proc/self/fd")) == before
