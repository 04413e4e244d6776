"""The files inside a PDF, and what in it would run: found wherever they hide, decoded under a limit, never opened.

An invoice's XML is looked for where readers look (ISO 19005-3, Factur-X 1.0 chapter 6): the name tree of embedded
files, the associated files of the document and of its pages, file annotations. Actions and executables are looked for
in every object, also in those that nothing refers to any more.
"""

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pikepdf

from ..errors import Refused, TooLarge
from . import facturx

_HEAD = 16_384  # bytes looked at to tell what a file is: disclaimers stand before some roots
_PIECE = 65_536  # inflated at a time: what follows is not even copied where only the head is wanted
_MAX_FILES = 1000
_MAX_DEPTH = 50

# In the normalised text of an object; only what matches is looked at key by key.
_WORTH_A_LOOK = re.compile(rb"/(?:JavaScript|JS|Launch|EF|XFA)(?![A-Za-z])")
_EXECUTABLE_NAME = re.compile(
    r".*\.(?:action|apk|app|application|bat|bin|cmd|com|command|cpl|deb|desktop|dll|dmg|docm|elf|exe|gadget|hta|inf|ins"
    r"|iso|jar|jnlp|js|jse|lnk|mde|msc|msh|msi|msp|mst|osx|out|pif|pkg|potm|ppsm|pptm|prg|ps1|psm1|py|reg|rpm|run|scf"
    r"|scr|sct|sh|shb|sys|vb|vbe|vbs|vbscript|vxd|workflow|ws|wsf|wsh|xbap|xlam|xll|xlsm|xltm)",
    re.IGNORECASE | re.DOTALL,
)
_EXECUTABLE_MAGIC = (
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a Linux program"),
    (b"\xfe\xed\xfa\xce", "a macOS program"), (b"\xfe\xed\xfa\xcf", "a macOS program"),
    (b"\xce\xfa\xed\xfe", "a macOS program"), (b"\xcf\xfa\xed\xfe", "a macOS program"),
    (b"\xca\xfe\xba\xbe", "a Java or macOS program"),
    (b"#!", "a script"),
    (b"L\x00\x00\x00\x01\x14\x02\x00", "a Windows shortcut"),
)  # fmt: skip
_ROOT = re.compile(rb"<(?:[A-Za-z_][\w.-]{0,40}:)?(?:%s)[\s>/]" % "|".join(facturx.ROOT_NAMES).encode())


class Undecodable(Exception):
    """A stream in a form that is not inflated here: another filter, a predictor, broken data."""


@dataclass(frozen=True)
class Attachment:
    """One embedded file; `name` as it stands there, for matching only: show `shown`."""

    name: str
    media_type: str
    stream: pikepdf.Stream

    @property
    def shown(self) -> str:
        """The name with everything escaped that does not print: line breaks, direction marks, NUL."""
        return repr(self.name[:80])

    def head(self) -> bytes:
        """Its first bytes, decoded; Undecodable."""
        return decoded(self.stream, _HEAD)[:_HEAD]

    def is_xml(self) -> bool:
        """By its name, its media type, or a root that an invoice has (in an encoding that can be read as ASCII)."""
        if self.name.strip().lower().endswith(".xml") or self.media_type in ("/text/xml", "/application/xml"):
            return True
        try:
            return _ROOT.search(self.head().replace(b"\x00", b"")) is not None
        except Undecodable:
            return False

    def danger(self) -> str | None:
        """Why it is a program, or may be one; None: it is none."""
        # Windows drops trailing dots and blanks: "a.exe. " is a program too.
        if _EXECUTABLE_NAME.fullmatch(self.name.rstrip(". \t\x00")):
            return f"the attachment {self.shown} is executable by its name"
        try:
            head = self.head()
        except Undecodable:
            return f"the attachment {self.shown} is packed in a way that hides what it is"
        what = next((what for magic, what in _EXECUTABLE_MAGIC if head.startswith(magic)), None)
        return f"the attachment {self.shown} is {what}" if what else None


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


def of_specification(specification: object) -> Iterator[Attachment]:
    """The file or files of a file specification (ISO 32000-2 7.11.3): /F and /UF may name two."""
    embedded = specification.get("/EF") if isinstance(specification, pikepdf.Dictionary) else None
    if not isinstance(specification, pikepdf.Dictionary) or not isinstance(embedded, pikepdf.Dictionary):
        return
    name = next((text for key in ("/UF", "/F", "/DOS", "/Unix", "/Mac") if (text := _text(specification.get(key)))), "")
    streams = {stream.objgen: stream for stream in embedded.values() if isinstance(stream, pikepdf.Stream)}
    for stream in streams.values():
        yield Attachment(name, _word(stream.get("/Subtype")), stream)


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


def listed(pdf: pikepdf.Pdf, pages: list[pikepdf.Object]) -> list[Attachment]:
    """The embedded files where readers look for them, each stream once; TooLarge when there are over a thousand."""
    found: dict[tuple[int, int], Attachment] = {}
    for specification in _specifications(pdf.Root, pages):
        for attachment in of_specification(specification):
            found.setdefault(attachment.stream.objgen, attachment)
            if len(found) > _MAX_FILES:
                raise TooLarge(f"the PDF holds more than {_MAX_FILES} files", code="too_complex")
    return list(found.values())


def _specifications(root: pikepdf.Object, pages: list[pikepdf.Object]) -> Iterator[object]:
    names = root.get("/Names")
    if isinstance(names, pikepdf.Dictionary):
        yield from _values(names.get("/EmbeddedFiles"))
    for holder in (root, *pages):
        associated = holder.get("/AF")
        yield from associated if isinstance(associated, pikepdf.Array) else (associated,)
    for page in pages:
        annotations = page.get("/Annots")
        for annotation in annotations if isinstance(annotations, pikepdf.Array) else ():
            if isinstance(annotation, pikepdf.Dictionary):
                yield annotation.get("/FS")


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


def dangers(objects: list[object]) -> list[str]:
    """What in these objects would run when the document is opened or clicked, in words."""
    found: dict[str, None] = {}
    for item in objects:
        dictionary = item.stream_dict if isinstance(item, pikepdf.Stream) else item
        if isinstance(dictionary, pikepdf.Object) and _WORTH_A_LOOK.search(dictionary.unparse(resolved=True)):
            found.update(dict.fromkeys(_dangers_in(dictionary)))
    return list(found)


def _dangers_in(item: object) -> Iterator[str]:
    left = [item]
    while left:
        current = left.pop()
        if isinstance(current, pikepdf.Array):
            left += _direct(current)
        if not isinstance(current, pikepdf.Dictionary):
            continue
        keys = set(current.keys())
        if "/JS" in keys or "/JavaScript" in keys or current.get("/S") == pikepdf.Name.JavaScript:
            yield "it holds JavaScript"
        if current.get("/S") == pikepdf.Name.Launch:
            yield "it holds an action that launches a program (Launch)"
        if "/XFA" in keys:
            yield "it holds a form with a program of its own (XFA)"
        if "/EF" in keys:
            yield from (danger for attachment in of_specification(current) if (danger := attachment.danger()))
        left += _direct(current.values())


def _direct(children: Iterable[object]) -> list[object]:
    return [child for child in children if isinstance(child, pikepdf.Object) and not child.is_indirect]


def invoice_xml(attachments: list[Attachment], limit: int) -> tuple[str, bytes] | None:
    """Name and bytes of the one XML inside; None: there is none.

    Refused: two_xml, since which one is the invoice cannot be told; xml_packed; xml_too_large, over `limit` bytes.
    """
    found = [attachment for attachment in attachments if attachment.is_xml()]
    if not found:
        return None
    if len(found) > 1:
        names = ", ".join(attachment.shown for attachment in found[:5])
        message = f"the PDF holds {len(found)} XML files ({names}): which one is the invoice cannot be told"
        raise Refused(message, code="two_xml")
    (xml,) = found
    try:
        content = decoded(xml.stream, limit)
    except Undecodable as reason:
        raise Refused(f"the XML {xml.shown} cannot be unpacked: {reason}", code="xml_packed") from None
    if len(content) > limit:
        raise TooLarge(f"the XML {xml.shown} is over {limit / 1_000_000:g} MB when unpacked", code="xml_too_large")
    return xml.name, content
