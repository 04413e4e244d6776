"""The files inside a PDF: found wherever they hide, decoded under a limit, never opened.

They are looked for where readers look (ISO 19005-3, Factur-X 1.0 chapter 6): the name tree of embedded files, the
associated files of the document and of its pages, file annotations. The PDF's shape is not trusted: what is no file
specification is passed over.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pikepdf

_PIECE = 65_536  # inflated at a time: what follows is not even copied where only the start is wanted
_MAX_DEPTH = 50
_MAX_INFLATED = 64_000_000


class Undecodable(Exception):
    """A stream in a form that is not inflated here: another filter, a predictor, broken data."""


@dataclass(frozen=True)
class File:
    """One embedded file; `name` as it stands there, hostile, empty when there is none."""

    name: str
    media_type: str  # as the PDF name that it is: /text/xml
    stream: pikepdf.Stream

    def sha256(self) -> str:
        """Of its content; of the stream as it is packed, where that cannot be inflated or is over 64 MB."""
        try:
            content = decoded(self.stream, _MAX_INFLATED)
        except Undecodable:
            content = b""
        whole = 0 < len(content) <= _MAX_INFLATED
        return hashlib.sha256(content if whole else bytes(self.stream.get_raw_stream_buffer())).hexdigest()


def files(root: pikepdf.Object, pages: Iterable[pikepdf.Object]) -> Iterator[File]:
    """The embedded files; one that is named at several places comes several times."""
    for specification in _specifications(root, pages):
        yield from of_specification(specification)


def of_specification(specification: object) -> Iterator[File]:
    """The file or files of a file specification (ISO 32000-2 7.11.3): /F and /UF may name two."""
    embedded = specification.get("/EF") if isinstance(specification, pikepdf.Dictionary) else None
    if not isinstance(specification, pikepdf.Dictionary) or not isinstance(embedded, pikepdf.Dictionary):
        return
    name = next((text for key in ("/UF", "/F", "/DOS", "/Unix", "/Mac") if (text := _text(specification.get(key)))), "")
    streams = {stream.objgen: stream for stream in embedded.values() if isinstance(stream, pikepdf.Stream)}
    for stream in streams.values():
        yield File(name, _word(stream.get("/Subtype")), stream)


def decoded(stream: pikepdf.Stream, limit: int) -> bytes:
    """The stream's bytes, at most `limit` + 1 of them: more than `limit` says that there are more. Undecodable.

    Inflates by itself: pikepdf would inflate the whole stream first, and 1 MB can hold 1 GB.
    """
    raw = memoryview(stream.get_raw_stream_buffer())
    if not _is_deflated(stream):
        return bytes(raw[: limit + 1])
    inflate = zlib.decompressobj()
    content = bytearray()
    try:
        for start in range(0, len(raw), _PIECE):
            content += inflate.decompress(raw[start : start + _PIECE], limit + 1 - len(content))
            if len(content) > limit or inflate.eof:
                return bytes(content)
    except zlib.error as error:
        raise Undecodable(f"its compressed data is broken ({error})") from None
    raise Undecodable("its compressed data is cut off")


def _is_deflated(stream: pikepdf.Stream) -> bool:
    filters = stream.get("/Filter", pikepdf.Array())
    names = [_word(one) for one in (filters if isinstance(filters, pikepdf.Array) else [filters])]
    if "/F" in stream or names not in ([], ["/FlateDecode"]):
        raise Undecodable(f"it is packed as {' '.join(names)[:80]!r}, and only FlateDecode is read")
    parameters = stream.get("/DecodeParms")
    if isinstance(parameters, pikepdf.Array):
        parameters = parameters[0] if len(parameters) == 1 else None
    if isinstance(parameters, pikepdf.Dictionary) and parameters.get("/Predictor", 1) != 1:
        raise Undecodable("it is packed with a predictor")
    return bool(names)


def _text(value: object) -> str:
    if not isinstance(value, pikepdf.String):
        return ""
    try:
        return str(value).encode("utf-8", "replace").decode()  # a lone surrogate cannot be stored or sent
    except UnicodeDecodeError:  # it begins with the mark of UTF-8 and goes on in something else
        return bytes(value).decode("latin-1")


def _word(value: object) -> str:
    """A PDF name, such as /FlateDecode; pikepdf's own str() fails on bytes that are not UTF-8."""
    return bytes(value).decode("latin-1") if isinstance(value, pikepdf.Name) else ""


def _specifications(root: pikepdf.Object, pages: Iterable[pikepdf.Object]) -> Iterator[object]:
    names = root.get("/Names")
    if isinstance(names, pikepdf.Dictionary):
        yield from _values(names.get("/EmbeddedFiles"))
    yield from _associated(root)
    for page in pages:
        yield from _associated(page)
        annotations = page.get("/Annots")
        for annotation in annotations if isinstance(annotations, pikepdf.Array) else ():
            if isinstance(annotation, pikepdf.Dictionary):
                yield annotation.get("/FS")


def _associated(holder: pikepdf.Object) -> Iterable[object]:
    associated = holder.get("/AF")
    return associated if isinstance(associated, pikepdf.Array) else (associated,)


def _values(tree: object) -> Iterator[object]:
    """The values of a name tree (ISO 32000-2 7.9.6), without trusting its shape."""
    seen: set[tuple[int, int]] = set()
    left = [(tree, 0)]
    while left:
        node, depth = left.pop()
        if not isinstance(node, pikepdf.Dictionary) or depth > _MAX_DEPTH or (node.is_indirect and node.objgen in seen):
            continue
        seen.add(node.objgen)
        if isinstance(values := node.get("/Names"), pikepdf.Array):
            yield from list(values)[1::2]
        if isinstance(kids := node.get("/Kids"), pikepdf.Array):
            left += [(kid, depth + 1) for kid in kids]
