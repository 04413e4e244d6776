"""What a PDF holds that matters to its seal: signatures, embedded files, metadata. Read by qpdf (pikepdf).

Refused: what qpdf cannot read, and encrypted documents, with whatever password.
"""

import binascii
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pikepdf

from ..errors import Refused
from . import embedded

_MAX_FIELD_DEPTH = 32


@dataclass(frozen=True)
class Signature:
    """A signature dictionary (ISO 32000-1 12.8.1) and the field that shows it."""

    field_name: str  # partial name; empty when no field of the form shows the signature
    sub_filter: str
    byte_range: tuple[int, ...]
    contents: bytes = field(repr=False)  # padding included


@contextmanager
def opened(content: bytes, *, inherit_page_attributes: bool = True) -> Iterator[pikepdf.Pdf]:
    """The document, for reading; everything that qpdf says while the block runs becomes Refused.

    `inherit_page_attributes`: each page has what stands above it in the tree.
    """
    with os.fdopen(os.memfd_create("pdf"), "wb") as file:  # qpdf reads a file three times as fast as a BytesIO
        file.write(content)
        file.flush()
        path = f"/proc/self/fd/{file.fileno()}"
        try:
            with pikepdf.open(path, inherit_page_attributes=inherit_page_attributes) as pdf:
                if pdf.is_encrypted:
                    raise Refused("the PDF is encrypted", code="encrypted")
                yield pdf
        except Refused:
            raise
        except pikepdf.PasswordError:
            raise Refused("the PDF is encrypted", code="encrypted") from None
        except Exception as error:  # noqa: BLE001 - an object of another type than expected raises nearly anything
            reason = str(error).replace(path, "document")
            raise Refused(f"the PDF cannot be read: {reason}", code="pdf_unreadable") from None


def signatures(content: bytes, pdf: pikepdf.Pdf) -> list[Signature]:
    """Every signature in the order of the form's fields, then those that no field shows."""
    shown = list(_signatures_of_form(pdf))
    if shown or b"/ByteRange" not in content:
        return shown
    return [_signature("", item) for item in pdf.objects if _is_signature(item)]


def embedded_files(pdf: pikepdf.Pdf) -> tuple[tuple[str, str], ...]:
    """(name, SHA-256) of each embedded file, wherever readers look for them, sorted."""
    files = {
        (file.name, file.stream.objgen): file for file in embedded.files(pdf.Root, (page.obj for page in pdf.pages))
    }
    return tuple(sorted((name, file.sha256()) for (name, _), file in files.items()))


def metadata_sha256(pdf: pikepdf.Pdf) -> str:
    """SHA-256 of the XMP stream as it stands in the file; empty without one."""
    stream = pdf.Root.get("/Metadata")
    return hashlib.sha256(stream.read_raw_bytes()).hexdigest() if isinstance(stream, pikepdf.Stream) else ""


def _signatures_of_form(pdf: pikepdf.Pdf) -> Iterator[Signature]:
    form = pdf.Root.get("/AcroForm")
    waiting = [(item, "", 0) for item in _list(form.get("/Fields"))] if isinstance(form, pikepdf.Dictionary) else []
    seen: set[tuple[int, int]] = set()
    while waiting:
        item, inherited_type, depth = waiting.pop(0)
        if not isinstance(item, pikepdf.Dictionary):
            continue
        if item.objgen in seen or depth > _MAX_FIELD_DEPTH:
            raise Refused("the PDF's form refers to itself", code="pdf_unreadable")
        if item.is_indirect:
            seen.add(item.objgen)
        kind = str(item.get("/FT", inherited_type))
        value = item.get("/V")
        if kind == "/Sig" and isinstance(value, pikepdf.Dictionary) and "/ByteRange" in value:
            yield _signature(str(item.get("/T", "?")), value)
        waiting += [(kid, kind, depth + 1) for kid in _list(item.get("/Kids"))]


def _is_signature(item: pikepdf.Object) -> bool:
    return isinstance(item, pikepdf.Dictionary) and "/ByteRange" in item and "/Contents" in item


def _signature(field_name: str, value: pikepdf.Object) -> Signature:
    return Signature(
        field_name,
        str(value.get("/SubFilter", "")),
        tuple(int(number) for number in _list(value["/ByteRange"])),
        bytes(value["/Contents"]),
    )


def _list(array: object) -> list[pikepdf.Object]:
    return list(array.as_list()) if isinstance(array, pikepdf.Array) else []


def gap_of(content: bytes, signature: Signature) -> slice:
    """The only bytes that a signature's range leaves out: its own contents, from `<` to `>`.

    Refused (`seal_coverage`) when the range has another form, leaves out anything else, or passes the end.
    """
    if len(signature.byte_range) == 4:
        start, first, second, rest = signature.byte_range
        if start == 0 < first < second < second + rest <= len(content):
            gap = slice(first, second)
            if _hexadecimal(content[gap]) == signature.contents:
                return gap
    raise Refused("a signature's range leaves out more than the signature", code="seal_coverage")


def _hexadecimal(text: bytes) -> bytes | None:
    if text[:1] != b"<" or text[-1:] != b">":
        return None
    try:
        return binascii.unhexlify(text[1:-1])
    except ValueError:
        return None
