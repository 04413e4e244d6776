"""What the files inside a PDF are: the invoice's XML, programs, others; and what else in it would run.

An invoice's XML is looked for where readers look (sealing/embedded.py). Actions and executables are looked for in
every object, also in those that nothing refers to any more.
"""

import re
from collections.abc import Iterable, Iterator

import pikepdf

from ..errors import Refused, TooLarge
from ..sealing import embedded
from ..sealing.embedded import File, Undecodable, decoded
from . import facturx

_HEAD = 16_384  # bytes looked at to tell what a file is: disclaimers stand before some roots
_MAX_FILES = 1000

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


class Attachment(File):
    """One embedded file; its name is for matching only: show `shown`."""

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


def listed(pdf: pikepdf.Pdf, pages: list[pikepdf.Object]) -> list[Attachment]:
    """The embedded files where readers look for them, each stream once; TooLarge when there are over a thousand."""
    found: dict[tuple[int, int], Attachment] = {}
    for file in embedded.files(pdf.Root, pages):
        found.setdefault(file.stream.objgen, Attachment(file.name, file.media_type, file.stream))
        if len(found) > _MAX_FILES:
            raise TooLarge(f"the PDF holds more than {_MAX_FILES} files", code="too_complex")
    return list(found.values())


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
            files = (Attachment(file.name, file.media_type, file.stream) for file in embedded.of_specification(current))
            yield from (danger for file in files if (danger := file.danger()))
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
