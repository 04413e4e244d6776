import hashlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pikepdf
import pypdf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pikepdf import Array, Dictionary, Name, Pdf, String

from gateway import errors
from gateway.keys.load import SigningKey
from gateway.sealing.duplicate import stamp
from tests.sealing import documents

SHA256 = hashlib.sha256(b"the document received").hexdigest()


def _texts(content: bytes) -> list[str]:
    return [page.extract_text() for page in pypdf.PdfReader(BytesIO(content)).pages]


def _line_of(content: bytes, page: int = 0) -> tuple[float, float, float, float]:
    """Where the line with the digest begins, and the direction it runs in, in the page's coordinates."""
    places: list[tuple[float, float]] = []

    def visit(text: str, cm: list[float], tm: list[float], font: Any, size: float) -> None:
        if SHA256[-8:] in text:
            places.append((tm[4] * cm[0] + tm[5] * cm[2] + cm[4], tm[4] * cm[1] + tm[5] * cm[3] + cm[5]))

    # pypdf answers in the coordinates of the mark, which is drawn once, as a form of its own.
    pypdf.PdfReader(BytesIO(content)).pages[page].extract_text(visitor_text=visit)
    with pikepdf.open(BytesIO(content)) as pdf:
        matrix = _matrix_of_mark(pdf.pages[page])
    return (*matrix.transform(places[0]), matrix.a, matrix.b)


def _matrix_of_mark(page: pikepdf.Page) -> pikepdf.Matrix:
    """ISO 32000-1 8.4: as a viewer finds it, by the operators before."""
    matrix, kept = pikepdf.Matrix(), list[pikepdf.Matrix]()
    for instruction in pikepdf.parse_content_stream(page):
        operands: Any = instruction.operands
        match str(instruction.operator):
            case "q":
                kept.append(matrix)
            case "Q" if kept:
                matrix = kept.pop()
            case "cm":
                matrix = pikepdf.Matrix(*(float(number) for number in operands)) @ matrix
            case "Do" if str(operands[0]) == "/Mark":
                return matrix
    raise AssertionError("no mark")


@pytest.mark.parametrize(("language", "says"), [("fr", "document reçu"), ("en", "not an original")])
def test_every_page_is_marked_and_names_the_document(invoice: bytes, language: str, says: str) -> None:
    """One page of a print-out must be enough to tell it from an original."""
    pages = _texts(stamp(invoice, SHA256, language))
    assert len(pages) == len(_texts(invoice))
    for before, after in zip(_texts(invoice), pages, strict=True):
        assert "DUPLICATA" in after
        assert SHA256 in after
        assert says in after
        assert before[:60] in after


def test_the_same_document_gives_the_same_duplicate(invoice: bytes) -> None:
    """It is made at the first request; made again it must not look like another."""
    assert stamp(invoice, SHA256, "fr") == stamp(invoice, SHA256, "fr")


def test_no_invoice_for_programs_is_left(invoice: bytes) -> None:
    """DOMAIN: a client's ERP would book it twice."""
    assert b"EmbeddedFile" in invoice
    content = stamp(invoice, SHA256, "fr")
    with pikepdf.open(BytesIO(content)) as pdf:
        assert not pdf.attachments
        assert set(pdf.Root.keys()) <= {"/Type", "/Pages", "/PageLabels", "/OCProperties", "/OutputIntents", "/Lang",
                                        "/Metadata"}  # fmt: skip
        assert not _keys_anywhere(pdf) & {"/EF", "/AF", "/Names", "/PieceInfo"}
        assert b"factur-x" not in pdf.Root.Metadata.read_bytes().lower()


def test_the_metadata_say_what_it_is(invoice: bytes) -> None:
    """Title and subject show in every viewer; the PDF/A and Factur-X claims of the original are gone."""
    with pikepdf.open(BytesIO(stamp(invoice, SHA256, "fr"))) as pdf:
        assert str(pdf.docinfo["/Title"]) == "DUPLICATA"
        assert SHA256 in str(pdf.docinfo["/Subject"])
        assert set(pdf.docinfo.keys()) == {"/Title", "/Subject"}
        metadata = pdf.open_metadata()
        assert metadata["dc:title"] == "DUPLICATA"
        assert SHA256 in str(metadata["dc:description"])
        assert metadata.pdfa_status == ""


def test_the_mark_brings_its_font(invoice: bytes) -> None:
    """Text in a font that is not embedded looks different everywhere."""
    with pikepdf.open(BytesIO(stamp(invoice, SHA256, "fr"))) as pdf:
        fonts = [one for one in pdf.objects if isinstance(one, Dictionary) and one.get("/Type") == Name.FontDescriptor]
        assert fonts
        assert all("/FontFile2" in one or "/FontFile3" in one or "/FontFile" in one for one in fonts)


def test_a_seal_does_not_survive(invoice: bytes, rsa_seal: SigningKey, sealed: bytes) -> None:
    """A broken seal on a duplicate would look like a forged original."""
    with pikepdf.open(BytesIO(stamp(sealed, SHA256, "fr"))) as pdf:
        assert "/AcroForm" not in pdf.Root
        assert not _keys_anywhere(pdf) & {"/ByteRange", "/SigFlags"}


def test_what_runs_or_leads_away_is_taken_out() -> None:
    """Scripts, actions at opening, on pages and in annotations; files in annotations."""
    pdf = documents.blank(2)
    script = Dictionary(S=Name.JavaScript, JS=String("app.alert(1)"))
    pdf.Root.OpenAction = script
    pdf.Root.AA = Dictionary(WC=script)
    pdf.Root.Names = Dictionary(JavaScript=Dictionary(Names=Array([String("x"), script])))
    pdf.Root.Outlines = pdf.make_indirect(Dictionary(First=Dictionary(Title=String("x"), A=script)))
    page = pdf.pages[0].obj
    page.AA = Dictionary(O=script)
    page.Contents.AF = Array([_file(pdf)])
    page.Resources.Properties = Dictionary(P0=Dictionary(AF=Array([_file(pdf)])))
    page.Annots = Array(
        [
            Dictionary(Type=Name.Annot, Subtype=Name.Link, Rect=Array([0, 0, 9, 9]), A=script),
            Dictionary(Type=Name.Annot, Subtype=Name.FileAttachment, Rect=Array([0, 0, 9, 9]), FS=_file(pdf)),
        ]
    )
    content = stamp(documents.saved(pdf), SHA256, "en")
    with pikepdf.open(BytesIO(content)) as after:
        assert not _keys_anywhere(after) & {
            "/JS",
            "/A",
            "/AA",
            "/OpenAction",
            "/FS",
            "/EF",
            "/AF",
            "/Annots",
            "/Outlines",
        }
        assert not any(b"secret" in _data(one) for one in after.objects)


def test_what_a_form_shows_stays_on_the_page() -> None:
    """The amounts may stand in its fields."""
    pdf = documents.blank()
    look = pdf.make_stream(b"BT /F1 9 Tf 2 2 Td (1 234,56 EUR) Tj ET")
    look.Type, look.Subtype, look.BBox = Name.XObject, Name.Form, Array([0, 0, 90, 20])
    look.Resources = pdf.pages[0].obj.Resources
    field = pdf.make_indirect(
        Dictionary(
            Type=Name.Annot,
            Subtype=Name.Widget,
            FT=Name.Tx,
            T=String("total"),
            F=4,
            Rect=Array([100, 100, 190, 120]),
            AP=Dictionary(N=look),
        )
    )
    pdf.pages[0].obj.Annots = Array([field])
    pdf.Root.AcroForm = Dictionary(Fields=Array([field]))
    (text,) = _texts(stamp(documents.saved(pdf), SHA256, "fr"))
    assert "1 234,56 EUR" in text


def test_a_layer_that_is_off_stays_off() -> None:
    """Without the catalog's list of layers a viewer would show what the issuer hid."""
    pdf = documents.blank()
    layer = pdf.make_indirect(Dictionary(Type=Name.OCG, Name=String("Hidden")))
    pdf.Root.OCProperties = Dictionary(OCGs=Array([layer]), D=Dictionary(OFF=Array([layer])))
    pdf.pages[0].obj.Resources.Properties = Dictionary(L0=layer)
    with pikepdf.open(BytesIO(stamp(documents.saved(pdf), SHA256, "fr"))) as after:
        off = after.Root.OCProperties.D.OFF[0]
        assert off.objgen == after.pages[0].obj.Resources.XObject.Drawing.Resources.Properties.L0.objgen


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("box", [(0, 0, 595, 842), (100, 200, 695, 1042), (-300, -400, 295, 442), (595, 842, 0, 0)])
def test_the_line_stands_upright_at_the_lower_edge(rotation: int, box: tuple[int, int, int, int]) -> None:
    """However the page is turned and wherever its box begins: where the reader looks."""
    pdf = documents.blank()
    pdf.pages[0].obj.MediaBox = Array(box)
    pdf.pages[0].obj.Rotate = rotation
    x, y, across, up = _line_of(stamp(documents.saved(pdf), SHA256, "fr"))
    left, low, right, high = min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])
    edges = {0: y - low, 90: right - x, 180: high - y, 270: x - left}
    directions = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}
    assert 0 <= edges[rotation] < 20
    assert (round(across), round(up)) == directions[rotation]
    assert left <= x <= right
    assert low <= y <= high


def test_the_mark_is_inside_what_is_shown() -> None:
    """The crop box is what viewers show and printers print; the media box may be wider, or end before it."""
    pdf = documents.blank()
    pdf.pages[0].obj.MediaBox = Array([0, 0, 1000, 1000])
    pdf.pages[0].obj.CropBox = Array([300, 400, 1600, 900])
    x, y, _, _ = _line_of(stamp(documents.saved(pdf), SHA256, "fr"))
    assert 300 <= x <= 1000
    assert 400 <= y < 420


@pytest.mark.parametrize(
    "size", [(20, 20), (74, 105), (298, 420), (2384, 3370), (14400, 14400), (100, 3000), (3000, 40)]
)
def test_pages_of_any_size_are_marked(size: tuple[int, int]) -> None:
    """A receipt roll, a label, a plan."""
    content = stamp(documents.saved(documents.blank(2, size)), SHA256, "fr")
    for text in _texts(content):
        assert SHA256 in text
    x, y, _, _ = _line_of(content)
    assert 0 <= x < size[0]
    assert 0 <= y < size[1]


def test_pages_of_different_sizes_have_their_own_mark() -> None:
    """And pages of one size share it: a thousand pages do not carry a thousand fonts."""
    pdf = documents.blank(30)
    pdf.pages[3].obj.MediaBox = Array([0, 0, 300, 300])
    content = stamp(documents.saved(pdf), SHA256, "fr")
    with pikepdf.open(BytesIO(content)) as after:
        marks = {page.obj.Resources.XObject.Mark.objgen for page in after.pages}
        fonts = [one for one in after.objects if isinstance(one, pikepdf.Stream) and "/Length1" in one]
        assert (len(marks), len(fonts)) == (2, 1)


def test_a_page_that_leaves_its_graphics_state_open_is_marked_all_the_same() -> None:
    """Its last words would move the mark out of sight, or make it as small as a dot."""
    pdf = documents.blank()
    pdf.pages[0].obj.Contents = pdf.make_stream(b"Q Q q 0.001 0 0 0.001 5000 5000 cm q q " + documents.TEXT)
    x, y, across, _ = _line_of(stamp(documents.saved(pdf), SHA256, "fr"))
    assert 0 <= y < 20
    assert 0 <= x < 595
    assert across == pytest.approx(1, abs=0.01)


def test_an_empty_page_is_marked() -> None:
    """It has neither content nor resources to add to."""
    pdf = pikepdf.new()
    page = pdf.add_blank_page().obj
    del page.Contents, page.Resources
    (text,) = _texts(stamp(documents.saved(pdf), SHA256, "fr"))
    assert SHA256 in text


@pytest.mark.parametrize(
    "left_open", [b"BT /F1 12 Tf (never closed", b"[1 2", b"BI /W 4 /H 4 /BPC 8 /CS /G ID abc", b"Q Q"]
)
def test_what_a_page_leaves_open_swallows_no_mark(left_open: bytes) -> None:
    """In a text that never ends the mark would be part of the text; and readers show such a page."""
    pdf = documents.blank()
    pdf.pages[0].obj.Contents = pdf.make_stream(documents.TEXT + left_open)
    (text,) = _texts(stamp(documents.saved(pdf), SHA256, "fr"))
    assert SHA256 in text


def test_an_annotation_that_is_none_is_left_out() -> None:
    """A list with something else in it is no reason for a client to get nothing."""
    pdf = documents.blank()
    link = Dictionary(Type=Name.Annot, Subtype=Name.Link, Rect=Array([0, 0, 9, 9]))
    pdf.pages[0].obj.Annots = Array([String("x"), 5, link])
    (text,) = _texts(stamp(documents.saved(pdf), SHA256, "fr"))
    assert SHA256 in text


@given(data=st.data())
def test_a_damaged_document_is_refused_or_marked(data: st.DataObject) -> None:
    """Nothing else: no traceback, no page without its mark."""
    content = documents.with_form()
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content = content[:place] + data.draw(st.binary(max_size=3)) + content[place + 1 :]
    try:
        stamped = stamp(content, SHA256, "fr")
    except errors.Refused:
        return
    with pikepdf.open(BytesIO(stamped)) as pdf:
        assert all("/Mark" in page.Resources.XObject for page in pdf.pages)


@pytest.mark.parametrize("make", documents.ODD, ids=lambda make: make.__name__)
def test_odd_documents_get_their_duplicate(make: Callable[[], bytes]) -> None:
    """Whatever can be received can be asked for."""
    received = make()
    pages = _texts(stamp(received, SHA256, "fr"))
    assert len(pages) == len(_texts(received))
    assert all("DUPLICATA" in text and SHA256 in text and "Facture 42" in text for text in pages)


def test_a_duplicate_of_a_duplicate_is_one() -> None:
    """Somebody may hand one in as a document."""
    once = stamp(documents.plain(), "0" * 64, "fr")
    (text,) = _texts(stamp(once, SHA256, "fr"))
    assert SHA256 in text


@pytest.mark.parametrize("content", [b"", b"%PDF-1.7\n", b"no PDF at all" * 100])
def test_what_cannot_be_read_is_refused(content: bytes) -> None:
    """Nothing half-marked leaves."""
    with pytest.raises(errors.Refused):
        stamp(content, SHA256, "fr")


def test_an_encrypted_document_is_refused() -> None:
    """Its owner did not want it changed, and the intake takes none."""
    content = documents.saved(documents.blank(), encryption=pikepdf.Encryption(owner="owner", user=""))
    with pytest.raises(errors.Refused) as caught:
        stamp(content, SHA256, "fr")
    assert caught.value.code == "encrypted"


def _file(pdf: Pdf) -> pikepdf.Object:
    stream = pdf.make_stream(b"secret")
    stream.Type = Name.EmbeddedFile
    return pdf.make_indirect(Dictionary(Type=Name.Filespec, F=String("x.xml"), EF=Dictionary(F=stream)))


def _data(item: pikepdf.Object) -> bytes:
    return (
        item.read_bytes() if isinstance(item, pikepdf.Stream) and "/DCTDecode" not in str(item.get("/Filter")) else b""
    )


def _keys_anywhere(pdf: Pdf) -> set[str]:
    """Of every dictionary that is written out, direct or not."""
    found: set[str] = set()
    waiting: list[Any] = list(pdf.objects)
    while waiting:
        item = waiting.pop()
        if isinstance(item, pikepdf.Stream | Dictionary):
            found |= set(item.keys())
            waiting += [part for _, part in item.items() if not getattr(part, "is_indirect", False)]
        elif isinstance(item, Array):
            waiting += [part for part in item.as_list() if not getattr(part, "is_indirect", False)]
    return found
