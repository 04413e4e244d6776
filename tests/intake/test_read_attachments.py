"""The files inside a PDF and what in it would run: found wherever they hide, unpacked under a limit."""

import time
import tracemalloc
import zlib

import pikepdf
import pytest
from pikepdf import Array, Dictionary, Name, String

from gateway.errors import Refused, TooLarge
from gateway.intake import read, sidecar
from gateway.sealing import embedded
from tests.intake import makers
from tests.intake.makers import LIMITS, PAGE, PAGES, TODAY, factur_x, invoice_xml, pdf, raw_pdf, saved, stream

PLAIN = sidecar.parse(
    b'{"kind": "invoice", "number": "F1", "issue_date": "2026-09-01", "contract": "C-1", "seller_siren": "123456782"}'
)
XML = invoice_xml().encode()


@pytest.fixture(scope="module", autouse=True)
def _limits() -> None:
    read.prepare()


def reading(document: bytes) -> read.Reading:
    return read.read(document, PLAIN if b"factur-x" not in document else None, LIMITS, TODAY)[0]


def refusal(document: bytes, limits: read.ReadLimits = LIMITS) -> Refused:
    with pytest.raises(Refused) as caught:
        read.read(document, None, limits, TODAY)
    return caught.value


# The XML: which one, and how much of it.


@pytest.mark.parametrize("second", ["zugferd-invoice.xml", "data.XML", "FACTUR-X.xml", "notes.xml"])
def test_two_xml_files_are_refused(second: str) -> None:
    """Which of them is the invoice depends on the reader: the client's ERP may book another one than we deliver."""
    assert refusal(pdf({"factur-x.xml": XML, second: XML})).code == "two_xml"


def test_a_second_invoice_under_another_name_is_found_by_its_content() -> None:
    """Also in UTF-16, and behind a long comment."""
    hidden = invoice_xml(prolog='<?xml version="1.0"?><!--' + "x" * 2000 + "-->")
    for content in (
        hidden.encode(),
        hidden.replace('version="1.0"', 'version="1.0" encoding="UTF-16"').encode("utf-16"),
    ):
        assert refusal(pdf({"factur-x.xml": XML, "annexe.dat": content})).code == "two_xml"


def test_a_second_xml_is_found_where_only_some_readers_look() -> None:
    """In the associated files of a page, in a file annotation, behind /UF beside another behind /F."""
    for hide in (_in_page_files, _in_an_annotation, _behind_uf):
        document = makers.opened(factur_x())
        hide(document)
        assert refusal(saved(document)).code == "two_xml", hide.__name__


def _specification(document: pikepdf.Pdf, name: str) -> Dictionary:
    embedded = pikepdf.Stream(document, XML, Type=Name.EmbeddedFile)
    return Dictionary(Type=Name.Filespec, F=String(name), EF=Dictionary(F=embedded))


def _in_page_files(document: pikepdf.Pdf) -> None:
    document.pages[0].obj.AF = Array([_specification(document, "x.xml")])


def _in_an_annotation(document: pikepdf.Pdf) -> None:
    annotation = Dictionary(Type=Name.Annot, Subtype=Name.FileAttachment, FS=_specification(document, "x.xml"))
    document.pages[0].obj.Annots = Array([document.make_indirect(annotation)])


def _behind_uf(document: pikepdf.Pdf) -> None:
    document.Root.AF[0].EF.UF = pikepdf.Stream(document, XML, Type=Name.EmbeddedFile)


def test_the_same_stream_named_twice_is_one_file() -> None:
    """The name tree and the associated files name the same: every Factur-X does so."""
    document = makers.opened(factur_x())
    document.pages[0].obj.AF = document.Root.AF
    assert reading(saved(document)).facts.number == "F2026-0042"


def test_other_attachments_do_not_disturb() -> None:
    """A delivery note, a spreadsheet."""
    got = reading(pdf({"factur-x.xml": XML, "bon.pdf": pdf(), "détail.csv": b"a;b\n"}))
    assert (got.facts.number, got.quarantine) == ("F2026-0042", None)


@pytest.mark.parametrize("name", ["facture.xml", "F\u202elmx.xml", "a\nb.xml"])
def test_an_invoice_under_another_name_is_read_with_a_warning(name: str) -> None:
    """Its name is shown escaped."""
    facts = reading(pdf({name: XML, "factur-x": b""})).facts
    assert facts.number == "F2026-0042"
    assert any("the standard's name is factur-x.xml" in warning and warning.isprintable() for warning in facts.warnings)


def test_an_xml_that_is_no_invoice_is_left_alone_with_a_warning() -> None:
    """Supporting data; the facts come from the sidecar."""
    got, xml = read.read(pdf({"mesures.xml": b"<mesures/>"}), PLAIN, LIMITS, TODAY)
    assert xml is None and got.facts.number == "F1" and got.facts.xml_name == ""
    assert any("'mesures.xml'" in warning for warning in got.facts.warnings)


def test_500_mb_of_xml_in_half_a_megabyte_are_refused_with_bounded_memory() -> None:
    """It is inflated no further than the limit."""
    bomb = makers.with_xml_stream(makers.deflate_bomb(500, b"<?xml version='1.0'?><a>"), b"/Filter /FlateDecode")
    assert len(bomb) < 1_000_000
    tracemalloc.start()
    started = time.process_time()
    error = refusal(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(error, TooLarge) and error.code == "xml_too_large"
    assert peak < 100_000_000 and time.process_time() - started < 1


def test_the_limit_of_the_xml_holds_to_the_byte() -> None:
    """Deflated or not."""
    limits = makers.limits(max_xml_bytes=len(XML))
    longer = makers.limits(max_xml_bytes=len(XML) - 1)
    for packed, keys in (
        (zlib.compress(XML), b"/Filter /FlateDecode"),
        (XML, b""),
        (zlib.compress(XML), b"/Filter [/FlateDecode]"),
    ):
        document = makers.with_xml_stream(packed, keys)
        assert read.read(document, None, limits, TODAY)[1] == XML
        assert refusal(document, longer).code == "xml_too_large"


@pytest.mark.parametrize(
    ("packed", "keys"),
    [
        (b"x" + zlib.compress(XML), b"/Filter /FlateDecode"),
        (zlib.compress(XML)[:-40], b"/Filter /FlateDecode"),
        (XML, b"/Filter /LZWDecode"),
        (XML.hex().encode() + b">", b"/Filter /ASCIIHexDecode"),
        (zlib.compress(zlib.compress(XML)), b"/Filter [/FlateDecode /FlateDecode]"),
        (zlib.compress(XML), b"/Filter /FlateDecode /DecodeParms << /Predictor 12 >>"),
        (zlib.compress(XML), b"/Filter /Flate#ff"),
        (zlib.compress(XML), b"/Filter /#01#0a"),
        (zlib.compress(XML), b"/Filter 7"),
        (XML, b"/F (/etc/passwd)"),
    ],
    ids=["broken", "cut", "LZW", "hex", "twice", "predictor", "odd name", "controls", "number", "outside the PDF"],
)
def test_an_xml_that_is_packed_in_another_way_is_refused(packed: bytes, keys: bytes) -> None:
    """What cannot be unpacked under a limit is not unpacked; the invoice's XML never needs more than deflate."""
    error = refusal(makers.with_xml_stream(packed, keys))
    assert error.code == "xml_packed" and "'factur-x.xml'" in error.message and error.message.isprintable()


def test_a_name_tree_that_runs_in_circles_is_walked_once() -> None:
    """Its nodes refer to each other."""
    nodes = (b"<< /Kids [5 0 R 4 0 R 5 0 R] >>", b"<< /Kids [4 0 R] /Names [(a) 4 0 R 7] >>")
    assert reading(with_catalog(b"/Names << /EmbeddedFiles 4 0 R >>", *nodes)).facts.number == "F1"


def test_more_files_than_a_thousand_are_refused() -> None:
    """Each is looked into; nobody attaches that many to an invoice."""
    files = b" ".join(b"<< /F (a) /EF << /F %d 0 R >> >>" % number for number in range(4, 1106))
    with pytest.raises(TooLarge):
        reading(with_catalog(b"/AF [%b]" % files, *[stream(b"x")] * 1102))


# What would run: quarantine, not refusal.


def with_catalog(keys: bytes, *objects: bytes) -> bytes:
    """A PDF with these keys in its catalog and these objects from 4 on."""
    return raw_pdf(b"<< /Type /Catalog /Pages 2 0 R %b >>" % keys, PAGES, PAGE, *objects)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (with_catalog(b"/OpenAction << /S /JavaScript /JS (x) >>"), "JavaScript"),
        (with_catalog(b"/OpenAction 4 0 R", b"<< /S /Launch /F (calc.exe) >>"), "Launch"),
        (with_catalog(b"/AA << /WC << /S /JavaScript /JS 4 0 R >> >>", stream(b"app.alert(1)")), "JavaScript"),
        (with_catalog(b"/Outlines << /First << /A << /S /URI /Next [<< /S /Launch >>] >> >> >>"), "Launch"),
        (with_catalog(b"/Names << /JavaScript << /Names [(a) 4 0 R] >> >>", b"<< >>"), "JavaScript"),
        (with_catalog(b"/AcroForm << /XFA (x) >>"), "XFA"),
        (with_catalog(b"/X [[<< /S /Rendition /JS (x) >>]]"), "JavaScript"),
        (with_catalog(b"", stream(b"x", b"/A << /S /Launch >>")), "Launch"),
        (makers.with_object_stream(zlib.compress(b"5 0 << /S /JavaScript >>")), "JavaScript"),
    ],
    ids=["open", "launch", "additional", "outline", "names", "xfa", "elsewhere", "stream", "object stream"],
)
def test_what_would_run_sends_the_document_to_quarantine(document: bytes, reason: str) -> None:
    """A person decides: the invoice may be a good one. The facts are read all the same."""
    got = reading(document)
    assert got.quarantine is not None and reason in got.quarantine
    assert got.facts.number == "F1"


def test_a_name_that_is_written_in_escapes_is_the_same_name() -> None:
    """/J#53 is /JS for every reader."""
    assert reading(with_catalog(b"/X << /J#53 (x) >>")).quarantine == "it holds JavaScript"


def test_an_action_that_nothing_refers_to_any_more_is_found_too() -> None:
    """An earlier revision of the file may come back."""
    assert reading(with_catalog(b"", b"<< /S /Launch /F (x) >>")).quarantine is not None


def test_a_text_that_speaks_of_javascript_is_no_javascript() -> None:
    """Only keys and names count."""
    assert reading(with_catalog(b"/Lang (/JavaScript /JS /Launch) /X [/JS /Launch]")).quarantine is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("setup.exe", b"x"),
        ("Setup.EXE", b"x"),
        ("facture.pdf.scr", b"x"),
        ("run.ps1. ", b"x"),
        ("fdp.\u202eexe.js", b"x"),
        ("macro.xlsm", b"x"),
        ("readme.txt", b"MZ\x90\x00"),
        ("readme", b"\x7fELF\x02"),
        ("facture.pdf", b"#!/bin/sh\n"),
        ("link.dat", b"L\x00\x00\x00\x01\x14\x02\x00"),
    ],
)
def test_an_embedded_program_is_found_by_its_name_or_its_first_bytes(name: str, content: bytes) -> None:
    """A client's mail filter would refuse it, or worse, not."""
    got = reading(pdf({"factur-x.xml": XML, name: content}))
    assert got.quarantine is not None and "the attachment " in got.quarantine and got.quarantine.isprintable()


def test_an_attachment_that_is_packed_so_that_it_cannot_be_looked_at_goes_to_quarantine() -> None:
    """A program in hexadecimal is a program."""
    packed = stream(b"4d5a90>", b"/Filter /ASCIIHexDecode")
    got = reading(with_catalog(b"/AF [<< /F (a.txt) /EF << /F 4 0 R >> >>]", packed))
    assert got.quarantine is not None and "hides what it is" in got.quarantine


@pytest.mark.parametrize(
    "raw", [b"<feff202e0041>", b"<efbbbffffe>", b"<feffd800>", b"<00>", b"(a\\000b\\nc)", b"<%b>" % (b"41" * 5000)]
)
def test_an_attachments_name_can_be_any_bytes(raw: bytes) -> None:
    """NUL, direction marks, half a surrogate, what is no text at all, 5,000 characters."""
    got = reading(with_catalog(b"/AF [<< /F %b /UF %b /EF << /F 4 0 R >> >>]" % (raw, raw), stream(b"MZ")))
    assert got.quarantine is not None and got.quarantine.isprintable() and len(got.quarantine) < 1000


def test_what_is_unpacked_never_exceeds_the_limit_by_more_than_a_byte() -> None:
    """The contract of `decoded`: one byte more says that there is more."""
    document = pikepdf.new()
    for packed, keys in ((zlib.compress(b"a" * 1000), {"Filter": Name.FlateDecode}), (b"a" * 1000, {})):
        held = pikepdf.Stream(document, packed, **keys)
        assert len(embedded.decoded(held, 10)) == 11
        assert len(embedded.decoded(held, 999)) == 1000
        assert len(embedded.decoded(held, 1000)) == 1000
