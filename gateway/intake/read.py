"""Read a document: PDF bytes and sidecar in, facts out. Pure, and made for a worker process with limits (process.py).

The bytes are hostile. A PDF is taken only as its producer wrote it: what had to be reconstructed is refused, because it
may be half a document, and because a seal is appended to the cross-reference that stands there. Small faults that every
reader takes (a wrong stream length, a wrong /Size) are accepted with a warning.

Refused, by code: empty, bare_xml, not_pdf, truncated, encrypted, pdf_damaged, too_complex, too_many_pages,
two_xml, xml_packed, xml_too_large, and those of facturx.py, sidecar.py and facts.py. JavaScript, an action that
launches something, an embedded program do not refuse a document: they send it to quarantine, where a person decides.
"""

import datetime as dt
import hashlib
import os
import re
from dataclasses import dataclass
from typing import BinaryIO, Self

import pikepdf
from lxml import etree

from ..config import IntakeSettings
from ..errors import Refused, TooLarge
from ..sealing import embedded
from . import attachments, facturx
from .facts import Facts, check_dates, merge
from .sidecar import Sidecar

LAYERS = ("pdf", "xsd", "en16931", "br-fr")  # each stricter than the one before; the last two are not run yet
_STANDARD_NAMES = ("factur-x.xml", "zugferd-invoice.xml", "xrechnung.xml")
_AFTER_THE_END = 1024  # bytes that may follow %%EOF, as in other readers
_UPDATE_BEGAN = re.compile(rb"\s*[0-9]|.*(?:obj|xref|trailer)", re.DOTALL)
_XMP_LIMIT = 1_000_000
_DEPTH = 50  # of the page tree
_MEMORY = 64_000_000  # for one object or cross-reference stream, inflated
_WARNINGS = 20

# What qpdf says of faults that change nothing of what a reader sees. Whatever else it says is damage.
_SMALL_FAULTS = re.compile(
    r"(?:Catalog: |kid [0-9]+ \(from [0-9]+\) )?"
    r"(?:expected endstream|attempting to recover stream length|recovered stream length|stream dictionary lacks /Length"
    r"|/Length key in stream dictionary is not an integer|accepting invalid xref table entry|name with stray #"
    r"|reported number of objects|setting missing or invalid /Type entry"
    r"|Resources is missing or invalid; repairing|MediaBox is undefined)"
)
_WHERE = re.compile(r"stream <[^>]*>[^:]*: ")  # stream <…> (object 4 0, offset 9): …
_INVOICE_ROOT = re.compile(rf"<(?:[\w.-]{{1,40}}:)?(?:{'|'.join(facturx.ROOT_NAMES)})[\s>]")


@dataclass(frozen=True)
class ReadLimits:
    """What a worker may take in, and what an issue date may be."""

    max_bytes: int
    max_xml_bytes: int
    max_pages: int
    xsd: bool
    oldest_issue_date: dt.date
    max_days_ahead: int
    memory_bytes: int
    cpu_seconds: float  # for one document

    @classmethod
    def of(cls, settings: IntakeSettings) -> Self:
        """From the section [intake]."""
        return cls(
            max_bytes=int(settings.max_megabytes * 1_000_000),
            max_xml_bytes=int(settings.max_xml_megabytes * 1_000_000),
            max_pages=settings.max_pages,
            xsd=settings.profile == "xsd",
            oldest_issue_date=settings.oldest_issue_date,
            max_days_ahead=settings.max_days_ahead,
            memory_bytes=settings.worker_megabytes * 1_000_000,
            cpu_seconds=settings.deadline_seconds,
        )


@dataclass(frozen=True)
class Reading:
    """The answer of a worker. `sha256` and `size` are of the bytes that were read."""

    facts: Facts
    quarantine: str | None  # why a person must look at it first
    sha256: str
    size: int
    xml_sha256: str | None  # of the embedded XML, byte for byte as it is embedded
    xml_size: int
    is_signed: bool  # it carries a signature, which sealing.validate must find sound before it is accepted


@dataclass(frozen=True)
class _Content:
    pages: int
    quarantine: str | None
    xml_name: str
    xml: bytes | None
    invoice: facturx.Invoice | None
    warnings: tuple[str, ...]


def prepare() -> None:
    """Bound what pikepdf (qpdf) may take, for this whole process."""
    pikepdf.settings.set_qpdf_limits(
        flate_max_memory=_MEMORY,
        png_max_memory=_MEMORY,
        tiff_max_memory=_MEMORY,
        run_length_max_memory=_MEMORY,
        doc_max_warnings=100,
    )


def read(pdf: bytes, sidecar: Sidecar | None, limits: ReadLimits, today: dt.date) -> tuple[Reading, bytes | None]:
    """The reading, and the embedded XML of an invoice; Refused says what is wrong. `today`: the issuer's day.

    The XML inside a document of a kind that is no invoice is not looked at.
    """
    is_invoice = sidecar is None or sidecar.kind is None or sidecar.kind.is_invoice
    content = _content(pdf, limits, with_xml=is_invoice)
    facts = merge(content.invoice.stated if content.invoice else None, sidecar)
    check_dates(facts, today, limits.oldest_issue_date, limits.max_days_ahead)
    ran = ("pdf", "xsd") if content.invoice and limits.xsd else ("pdf",)
    facts = facts.model_copy(
        update={
            "profile": content.invoice.profile if content.invoice else "",
            "xml_name": content.xml_name,
            "pages": content.pages,
            "warnings": (content.warnings + facts.warnings)[:_WARNINGS],
            "layers_ran": ran,
            "layers_skipped": tuple(layer for layer in LAYERS if layer not in ran),
        }
    )
    xml = content.xml
    digest = None if xml is None else hashlib.sha256(xml).hexdigest()
    reading = Reading(
        facts,
        content.quarantine,
        hashlib.sha256(pdf).hexdigest(),
        len(pdf),
        digest,
        len(xml or b""),
        is_signed=b"/ByteRange" in pdf,  # the bytes that a signature covers are counted: it is never compressed
    )
    return reading, xml


def _content(pdf: bytes, limits: ReadLimits, *, with_xml: bool) -> _Content:
    _check_ends(pdf)
    try:
        with _memory_file(pdf) as file, _opened(file) as opened:
            return _examine(opened, limits, with_xml=with_xml)
    except pikepdf.PasswordError:
        raise Refused("the PDF is encrypted: it needs a password", code="encrypted") from None
    except pikepdf.PikepdfError as error:
        if "encrypt" in str(error):
            raise Refused("the PDF is encrypted, in a way that is not known", code="encrypted") from None
        raise Refused(f"the PDF is damaged: {_said(error)}", code="pdf_damaged") from None
    except MemoryError:
        raise TooLarge("the PDF needs more memory than a document may", code="too_complex") from None


def _check_ends(pdf: bytes) -> None:
    """Refuse what is no PDF, and what lost its end on the way."""
    if not pdf:
        raise Refused("the file is empty (0 bytes)", code="empty")
    if not pdf.startswith(b"%PDF-"):
        if _is_bare_xml(pdf[:4096]):
            raise Refused("a bare XML without its PDF is not accepted yet; send the Factur-X PDF", code="bare_xml")
        raise Refused("this is no PDF: it does not begin with %PDF-", code="not_pdf")
    end = pdf.rfind(b"%%EOF")
    if end < 0:
        raise Refused("the PDF is cut off: its end mark %%EOF is missing", code="truncated")
    if (after := len(pdf) - end - 5) > _AFTER_THE_END:
        message = f"the PDF is cut off, or something was added to it: {after} bytes follow its last end mark %%EOF"
        raise Refused(message, code="truncated")
    if _UPDATE_BEGAN.match(pdf, end + 5):  # some readers would take it, others what was there before
        raise Refused("the PDF is cut off: a change was appended to it, and its end mark is missing", code="truncated")


def _is_bare_xml(head: bytes) -> bool:
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = head.decode(encoding, "replace").lstrip()
    return text.startswith("<?xml") or (text.startswith("<") and _INVOICE_ROOT.search(text) is not None)


def _memory_file(pdf: bytes) -> BinaryIO:
    """The bytes as a file that can be mapped: qpdf reads it three times faster than a Python stream."""
    file = os.fdopen(os.memfd_create("document", os.MFD_CLOEXEC), "w+b")
    file.write(pdf)
    file.seek(0)
    return file


def _opened(file: BinaryIO) -> pikepdf.Pdf:
    return pikepdf.open(file, access_mode=pikepdf.AccessMode.mmap, inherit_page_attributes=False)


def _examine(pdf: pikepdf.Pdf, limits: ReadLimits, *, with_xml: bool) -> _Content:
    if pdf.is_encrypted:
        raise Refused("the PDF is encrypted", code="encrypted")
    objects: list[object] = list(pdf.objects)  # resolves every one: what cannot be is in the warnings
    faults = _faults(pdf)
    pages = _pages(pdf.Root, limits.max_pages)
    files = attachments.listed(pdf, pages)
    quarantine = attachments.dangers(objects)
    name, xml, invoice, notes = "", None, None, list[str]()
    if with_xml and (found := attachments.invoice_xml(files, limits.max_xml_bytes)):
        name, xml, invoice, notes = _invoice(*found, xsd=limits.xsd)
    notes += _xmp(pdf.Root, invoice, name)
    return _Content(
        pages=len(pages),
        quarantine="; ".join(quarantine)[:900] or None,
        xml_name=name,
        xml=xml,
        invoice=invoice,
        warnings=(*faults, *notes),
    )


def _faults(pdf: pikepdf.Pdf) -> list[str]:
    """Small faults, each once; Refused when one of them is not small."""
    said = [_said(warning) for warning in pdf.get_warnings()]
    for warning in said:
        if "limit exceeded" in warning or "bad_alloc" in warning:  # of prepare, or of the process's memory
            raise TooLarge(f"the PDF is built to exhaust its reader: {warning}", code="too_complex")
        if not _SMALL_FAULTS.match(warning):
            raise Refused(f"the PDF is damaged or cut off: {warning}", code="pdf_damaged")
    return [f"PDF: {warning}" for warning in dict.fromkeys(said)]


def _said(message: object) -> str:
    """qpdf's words without the place that it names: the place is ours."""
    return facturx.plain(_WHERE.sub("", str(message), count=1))


def _pages(root: pikepdf.Object, limit: int) -> list[pikepdf.Object]:
    """The pages, in any order, by a walk that trusts neither /Count nor the tree (pikepdf's copies repeated pages)."""
    pages: list[pikepdf.Object] = []
    seen: set[tuple[int, int]] = set()
    left: list[tuple[object, int]] = [(root.get("/Pages"), 0)]
    while left:
        node, depth = left.pop()
        if not isinstance(node, pikepdf.Dictionary):
            raise Refused("the page tree is broken: a page is missing", code="pdf_damaged")
        kids = node.get("/Kids")
        if not isinstance(kids, pikepdf.Array):
            pages.append(node)
            continue
        if depth > _DEPTH or (node.is_indirect and node.objgen in seen):
            raise Refused("the page tree is broken: it runs in circles", code="pdf_damaged")
        seen.add(node.objgen)
        count: object = node.get("/Count")
        if max(len(kids) + len(pages) + len(left), count if isinstance(count, int) else 0) > limit:
            raise TooLarge(f"the PDF has more than {limit} pages", code="too_many_pages")
        left += [(kid, depth + 1) for kid in kids]
    if not pages:
        raise Refused("the PDF has no pages", code="pdf_damaged")
    return pages


def _invoice(name: str, xml: bytes, *, xsd: bool) -> tuple[str, bytes | None, facturx.Invoice | None, list[str]]:
    shown = name.translate({0: None})[:100]
    standard = name.strip().lower() in _STANDARD_NAMES
    try:
        root = facturx.parse(xml)
    except Refused as refused:
        raise Refused(f"{shown!r} in the PDF: {refused.message}", code=refused.code) from None
    if not standard and not facturx.is_invoice(root):
        return "", None, None, [f"the XML {shown!r} in the PDF is no invoice and was not read"]
    invoice = facturx.read(root, xsd=xsd)
    notes = list(invoice.warnings)
    if not standard:
        notes.append(f"the invoice is in {shown!r}; the standard's name is factur-x.xml")
    return shown, xml, invoice, notes


def _xmp(root: pikepdf.Object, invoice: facturx.Invoice | None, xml_name: str) -> list[str]:
    """What is wrong with the metadata (XMP): notes only, except for a DTD."""
    metadata = root.get("/Metadata")
    if not isinstance(metadata, pikepdf.Stream):
        return ["the PDF has no XMP metadata"] if invoice else []
    try:
        packet = embedded.decoded(metadata, _XMP_LIMIT)
        xmp = facturx.parse(packet.strip(b" \t\r\n\x00"))
    except embedded.Undecodable as reason:
        return [f"the XMP metadata cannot be read: {reason}"]
    except Refused as refused:
        if refused.code == "dtd":
            raise
        return [f"the XMP metadata cannot be read: {refused.message}"]
    return _xmp_against_xml(xmp, invoice, xml_name) if invoice else []


def _xmp_against_xml(xmp: etree._Element, invoice: facturx.Invoice, xml_name: str) -> list[str]:
    notes = []
    level = invoice.profile.rpartition(" ")[2]
    said = _xmp_value(xmp, "ConformanceLevel")
    if re.sub(r"[ _-]", "", said).lower() != level.replace("-", ""):
        notes.append(f"the XMP metadata says level {said[:40]!r}, the XML {level}")
    said = _xmp_value(xmp, "DocumentFileName")
    if said != xml_name:
        notes.append(f"the XMP metadata says that the XML is called {said[:40]!r}, it is {xml_name!r}")
    return notes


def _xmp_value(xmp: etree._Element, name: str) -> str:
    """A property of the Factur-X or ZUGFeRD extension, as an element or as an attribute; empty: absent."""
    for element in xmp.iter("{*}Description"):
        for key, value in element.items():
            if etree.QName(key).localname == name:
                return str(value).strip()
        if text := element.findtext(f"{{*}}{name}"):
            return text.strip()
    return ""
