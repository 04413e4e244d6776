"""Write MIME as bytes that survive the way: CRLF only, lines of at most 76 characters, 7 bits, no trailing blanks.

Transfer encodings (RFC 2045), encoded words (RFC 2047), parameters (RFC 2231), multiparts (RFC 2046). The
functions work in str and the whole is encoded as ASCII once, so that a character that no encoding took care
of is an error here and not on the way. A control character in a header's value is Refused: a line end there
would begin a header of its own. Nothing depends on the clock or on chance: the same input, the same bytes.
"""

import base64
import binascii
import hashlib
import re

from ..errors import Refused

LINE = 76
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TOKEN = re.compile(r"[A-Za-z0-9._+-]+")
_NOT_QUOTED = re.compile(rb"[^\t\n -<>-~]")  # RFC 2045 6.7 (1): what does not stand for itself
_WORD_BYTES = 42  # of UTF-8 in one encoded word: 56 characters of base64, 68 with =?utf-8?B?…?=


def base64_lines(content: bytes) -> str:
    """RFC 2045 6.8, without a line end after the last line."""
    text = binascii.b2a_base64(content, newline=False).decode("ascii")
    return "\r\n".join([text[i : i + LINE] for i in range(0, len(text), LINE)])


def quoted_printable(text: str) -> str:
    """RFC 2045 6.7 of a text whose lines end in LF; without a line end after the last line."""
    quoted = _NOT_QUOTED.sub(lambda octet: b"=%02X" % ord(octet[0]), text.encode("utf-8")).decode("ascii")
    return "\r\n".join([part for line in quoted.split("\n") for part in _quoted_line(line)])


def _quoted_line(rest: str) -> list[str]:
    if rest.endswith((" ", "\t")):
        rest = f"{rest[:-1]}={ord(rest[-1]):02X}"
    parts: list[str] = []
    while True:
        if rest.startswith((".", "From ")):  # some relays double the dot or write >From: the signature would break
            rest = f"={ord(rest[0]):02X}{rest[1:]}"
        if len(rest) <= LINE:
            return [*parts, rest]
        end = LINE - 1
        if "=" in rest[end - 2 : end]:  # never inside =XX
            end = rest.rindex("=", end - 2, end)
        parts.append(rest[:end] + "=")
        rest = rest[end:]


def checked(value: str, what: str) -> str:
    """`value`; Refused when it holds a control character, a line end above all (header injection)."""
    if _CONTROL.search(value):
        raise Refused(f"a control character in {what}: {value[:60]!r}", code="control_character", field=what)
    return value


def unstructured(name: str, value: str) -> str:
    """A header field of free text (RFC 5322 2.2.1), with its line end; encoded words (RFC 2047) where needed."""
    checked(value, name)
    plain = value.isascii() and value == " ".join(value.split()) and "=?" not in value
    if plain and len(name) + 2 + len(value) <= LINE:
        return f"{name}: {value}\r\n"
    return f"{name}: {encoded_words(value, LINE - len(name) - 2)}\r\n"


def address(name: str, display: str, addr_spec: str) -> str:
    """A header field with one mailbox (RFC 5322 3.4). `addr_spec` must have passed `identifiers.mail_address`."""
    checked(display, name)
    if not display:
        return f"{name}: <{addr_spec}>\r\n"
    if display.isascii() and len(display) <= 50 and display == " ".join(display.split()) and "=?" not in display:
        escaped = display.replace("\\", "\\\\").replace('"', '\\"')
        phrase = f'"{escaped}"'
    else:
        phrase = encoded_words(display, LINE - len(name) - 2)
    gap = " " if len(name) + len(phrase) + len(addr_spec) + 5 <= LINE and "\r\n" not in phrase else "\r\n "
    return f"{name}: {phrase}{gap}<{addr_spec}>\r\n"


def encoded_words(value: str, first_line: int) -> str:
    """RFC 2047 in base64, one word a line, each whole characters; `first_line`: characters left on the first line."""
    words = []
    room = min(_WORD_BYTES, (first_line - len("=?utf-8?B??=")) // 4 * 3)
    chunk = b""
    for character in value:
        octets = character.encode("utf-8")
        if len(chunk) + len(octets) > room:
            words.append(chunk)
            chunk, room = b"", _WORD_BYTES
        chunk += octets
    words.append(chunk)
    return "\r\n ".join([f"=?utf-8?B?{base64.b64encode(word).decode('ascii')}?=" for word in words])


def parameter(name: str, value: str) -> str:
    """`; name=value` on a line of its own or several (RFC 2231: charset, percent signs, continuations)."""
    checked(value, name)
    if _TOKEN.fullmatch(value) and len(name) + len(value) + 6 <= LINE:
        return f';\r\n {name}="{value}"'
    octets = [chr(b) if _TOKEN.fullmatch(chr(b)) else f"%{b:02X}" for b in value.encode("utf-8")]
    sections, section = [], "utf-8''"
    for octet in octets:
        if len(section) + len(octet) > 50:
            sections.append(section)
            section = ""
        section += octet
    if not sections:
        return f";\r\n {name}*={section}"
    return "".join([f";\r\n {name}*{i}*={part}" for i, part in enumerate([*sections, section])])


def boundary(seed: str, role: str) -> str:
    """A delimiter of multiparts, the same for the same `seed`; `=_` occurs in neither transfer encoding."""
    return "=_" + hashlib.sha256(f"{role} {seed}".encode()).hexdigest()[:32]


def multipart(subtype: str, delimiter: str, parts: list[str]) -> str:
    """An entity of `parts`, each an entity that ends with a line end; ends with a line end itself."""
    head = f'Content-Type: multipart/{subtype};\r\n boundary="{delimiter}"\r\n\r\n'
    return head + "".join([f"--{delimiter}\r\n{part}\r\n" for part in parts]) + f"--{delimiter}--\r\n"


def text_part(subtype: str, text: str) -> str:
    """An entity of text, UTF-8."""
    head = f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    return head + quoted_printable(text) + "\r\n"


def attachment_part(subtype: str, file_name: str, content: bytes) -> str:
    """An entity application/`subtype` to be kept under `file_name`."""
    disposition = f"attachment{parameter('filename', file_name)}"
    head = f"Content-Type: application/{subtype}\r\nContent-Disposition: {disposition}\r\n"
    return f"{head}Content-Transfer-Encoding: base64\r\n\r\n{base64_lines(content)}\r\n"
