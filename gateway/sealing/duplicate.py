"""Make the duplicate of a document: every page marked, the received document named by its SHA-256.

A duplicate is a new document, for reading: pages with what they show, and nothing that a program would take for
an invoice or run. So it has no embedded file, signature, form, script, action or link, and its metadata say what
it is. The same document gives the same bytes each time.

Refused: what qpdf cannot read, and encrypted documents.
"""

import math
import zlib
from functools import lru_cache
from io import BytesIO

import pikepdf
from pikepdf import Dictionary, Name
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from . import document

WORD = "DUPLICATA"
_LINES = {
    "fr": "DUPLICATA sans valeur d'original. SHA-256 du document reçu : {sha256}",
    "en": "DUPLICATA, not an original. SHA-256 of the document received: {sha256}",
}
_FONT = "Vera"  # comes with reportlab, and is embedded
_CATALOG = ("/Type", "/Pages", "/PageLabels", "/OCProperties", "/OutputIntents", "/Lang")
_PAGE = ("/Type", "/Parent", "/Resources", "/MediaBox", "/CropBox", "/Rotate", "/Contents", "/Group", "/UserUnit")
_STRIPPED = ("/AF", "/AA", "/EF", "/Metadata", "/PieceInfo", "/StructParent", "/StructParents")


def stamp(content: bytes, sha256: str, language: str) -> bytes:
    """The duplicate of the received document `content`, whose SHA-256 (hexadecimal) every page names.

    `language`: `fr` or `en`; the mark itself is the French word in both.
    """
    line = _LINES[language].format(sha256=sha256)
    with document.opened(content) as pdf:
        _make_forms_part_of_the_pages(pdf)
        _keep_only(pdf.Root, _CATALOG)
        for page in pdf.pages:
            _keep_only(page.obj, _PAGE)
        for item in pdf.objects:
            _strip(item)
        _mark_pages(pdf, line)
        _describe(pdf, line)
        duplicate = BytesIO()
        pdf.save(duplicate, deterministic_id=True)
    return duplicate.getvalue()


def _make_forms_part_of_the_pages(pdf: pikepdf.Pdf) -> None:
    form = pdf.Root.get("/AcroForm")
    if form is not None and form.get("/NeedAppearances"):
        pdf.generate_appearance_streams()
    for page in pdf.pages:
        annotations = page.obj.get("/Annots")
        if annotations is not None:
            page.obj.Annots = pikepdf.Array([one for one in annotations.as_list() if _is_for_the_eye(one)])
    pdf.flatten_annotations("all")


def _is_for_the_eye(annotation: object) -> bool:
    """It is neither a seal nor a file."""
    if not isinstance(annotation, Dictionary):
        return False
    field = annotation if "/FT" in annotation or "/Parent" not in annotation else annotation["/Parent"]
    return field.get("/FT") != Name.Sig and annotation.get("/Subtype") != Name.FileAttachment


def _keep_only(dictionary: pikepdf.Object, keys: tuple[str, ...]) -> None:
    for key in set(dictionary.keys()) - set(keys):
        del dictionary[key]


def _strip(item: pikepdf.Object) -> None:
    """Take out of an object, and of what it holds directly, what is not for the eye."""
    if isinstance(item, Dictionary | pikepdf.Stream):
        for key in _STRIPPED:
            if key in item:
                del item[key]
        parts = [part for _, part in item.items()]
    elif isinstance(item, pikepdf.Array):
        parts = list(item.as_list())
    else:
        return
    for part in parts:
        if isinstance(part, Dictionary | pikepdf.Array) and not part.is_indirect:
            _strip(part)


def _mark_pages(pdf: pikepdf.Pdf, line: str) -> None:
    boxes = [_visible_box(page) for page in pdf.pages]
    sizes = [_upright_size(page, box) for page, box in zip(pdf.pages, boxes, strict=True)]
    distinct = list(dict.fromkeys(sizes))
    with pikepdf.open(_overlays(distinct, line)) as overlays:
        marks = [pdf.copy_foreign(page.as_form_xobject()) for page in overlays.pages]
        for page, box, size in zip(pdf.pages, boxes, sizes, strict=True):
            _mark(pdf, page, box, marks[distinct.index(size)])


def _mark(pdf: pikepdf.Pdf, page: pikepdf.Page, box: pikepdf.Rectangle, mark: pikepdf.Object) -> None:
    # What the page draws becomes a form: all that it leaves open (state, clip, text) ends with it, and hides no mark.
    packed = zlib.compress(_drawing(page))  # at once: a hundred pages may share one large stream
    drawing = pdf.make_stream(packed, Filter=Name.FlateDecode, Type=Name.XObject, Subtype=Name.Form)
    drawing.BBox, drawing.Resources = page.mediabox, page.resources
    placed = page.calc_form_xobject_placement(mark, Name.Mark, box, allow_shrink=True, allow_expand=True)
    page.obj.Resources = Dictionary(XObject=Dictionary(Drawing=drawing, Mark=mark))
    page.obj.Contents = pdf.make_stream(b"/Drawing Do\n" + placed)


def _drawing(page: pikepdf.Page) -> bytes:
    """The page's content streams, which only together need to make sense (ISO 32000-1 7.8.2)."""
    contents = page.obj.get("/Contents")
    streams = contents.as_list() if isinstance(contents, pikepdf.Array) else [contents]
    return b"\n".join(stream.read_bytes() for stream in streams if isinstance(stream, pikepdf.Stream))


def _visible_box(page: pikepdf.Page) -> pikepdf.Rectangle:
    """What a viewer shows: the crop box within the media box (ISO 32000-1 14.11.2)."""
    media, crop = pikepdf.Rectangle(page.mediabox), pikepdf.Rectangle(page.cropbox)
    box = pikepdf.Rectangle(
        max(media.llx, crop.llx), max(media.lly, crop.lly), min(media.urx, crop.urx), min(media.ury, crop.ury)
    )
    visible = box if box.width > 0 and box.height > 0 else media
    if visible.width <= 0 or visible.height <= 0:
        raise ValueError("a page has no area")
    return visible


def _upright_size(page: pikepdf.Page, box: pikepdf.Rectangle) -> tuple[float, float]:
    """Width and height as the reader sees them, in units of the page's coordinates."""
    turned = page.rotation % 180 == 90
    width, height = round(float(box.width), 2), round(float(box.height), 2)
    return (height, width) if turned else (width, height)


def _overlays(sizes: list[tuple[float, float]], line: str) -> BytesIO:
    """A PDF with one page for each size: the word across it, the line along its lower edge."""
    _register_font()
    pdf = BytesIO()
    canvas = Canvas(pdf, invariant=1)
    for width, height in sizes:
        canvas.setPageSize((width, height))
        _draw_word(canvas, width, height)
        _draw_line(canvas, width, height, line)
        canvas.showPage()
    canvas.save()
    pdf.seek(0)
    return pdf


@lru_cache(maxsize=1)
def _register_font() -> None:
    pdfmetrics.registerFont(TTFont(_FONT, "Vera.ttf"))


def _draw_word(canvas: Canvas, width: float, height: float) -> None:
    diagonal = math.hypot(width, height)
    size = min(0.7 * diagonal / pdfmetrics.stringWidth(WORD, _FONT, 1), 0.5 * min(width, height))
    canvas.saveState()
    canvas.translate(width / 2, height / 2)
    canvas.rotate(math.degrees(math.atan2(height, width)))
    canvas.setFillColorRGB(0.7, 0.1, 0.1, alpha=0.25)
    canvas.setFont(_FONT, size)
    canvas.drawCentredString(0, -size / 3, WORD)
    canvas.restoreState()


def _draw_line(canvas: Canvas, width: float, height: float, line: str) -> None:
    words, _, digest = line.rpartition(" ")
    wanted = max(6.0, min(width, height) / 85)
    fits = 0.94 * width / pdfmetrics.stringWidth(line, _FONT, 1)
    lines = [line] if fits >= wanted * 0.8 else [digest, words]  # from the bottom up
    size = min(wanted, *(0.94 * width / pdfmetrics.stringWidth(one, _FONT, 1) for one in lines))
    canvas.setFillColorRGB(1, 1, 1, alpha=0.75)
    canvas.rect(0, 0, width, size * (1.6 * len(lines) + 0.4), stroke=0, fill=1)
    canvas.setFillColorRGB(0.5, 0, 0, alpha=1)
    canvas.setFont(_FONT, size)
    for row, one in enumerate(lines):
        canvas.drawCentredString(width / 2, size * (0.7 + 1.5 * row), one)


def _describe(pdf: pikepdf.Pdf, line: str) -> None:
    if "/Info" in pdf.trailer:
        del pdf.trailer["/Info"]
    pdf.docinfo["/Title"] = WORD
    pdf.docinfo["/Subject"] = line
    with pdf.open_metadata(set_pikepdf_as_editor=False, update_docinfo=False) as metadata:
        metadata["dc:title"] = WORD
        metadata["dc:description"] = line
