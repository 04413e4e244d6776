"""Make the duplicate of a document: every page marked, the received document named by its SHA-256.

A duplicate is a new document, for reading: pages with what they show, and nothing that a program would take for
an invoice or run. So it has no embedded file, signature, form, script, action or link, and its metadata say what
it is. The same document gives the same bytes each time.

Refused: what qpdf cannot read, and encrypted documents.
"""

from io import BytesIO

import pikepdf
from pikepdf import Dictionary, Name

from . import document
from .mark import mark_pages

WORD = "DUPLICATA"
_LINES = {
    "fr": "DUPLICATA sans valeur d'original. SHA-256 du document reçu : {sha256}",
    "en": "DUPLICATA, not an original. SHA-256 of the document received: {sha256}",
}
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
        mark_pages(pdf, WORD, line)
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


def _describe(pdf: pikepdf.Pdf, line: str) -> None:
    if "/Info" in pdf.trailer:
        del pdf.trailer["/Info"]
    pdf.docinfo["/Title"] = WORD
    pdf.docinfo["/Subject"] = line
    with pdf.open_metadata(set_pikepdf_as_editor=False, update_docinfo=False) as metadata:
        metadata["dc:title"] = WORD
        metadata["dc:description"] = line
