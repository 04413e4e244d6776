"""The writer's bytes come back unchanged through readers that nobody here wrote; nothing on the way breaks them."""

import base64
import email
import email.header
import email.policy
import email.utils
import quopri
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.mail import mime

# What a name or a text may hold: any character but controls, line separators and halves of characters.
text = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1)
names = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs")) | st.just(" "), min_size=1)


def parsed(source: str) -> EmailMessage:
    message = email.message_from_bytes(source.encode("ascii"), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def is_sound(lines: str) -> bool:
    return all(len(line) <= 76 and not line.endswith((" ", "\t")) for line in lines.split("\r\n")) and (
        lines.replace("\r\n", "").isprintable()
    )


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")))
def test_quoted_printable_is_undone_by_the_standard_library(content: str) -> None:
    """Accents, the euro sign, trailing blanks, long lines: what is read is what was written."""
    encoded = mime.quoted_printable(content)
    assert quopri.decodestring(encoded.encode("ascii")).replace(b"\r\n", b"\n").decode("utf-8") == content
    assert all(len(line) <= 76 and not line.endswith((" ", "\t")) for line in encoded.split("\r\n"))
    assert encoded.isascii()


@pytest.mark.parametrize("line", [".", "..", ".hidden", "From the start", "x" * 75 + ".end", "x" * 75 + "From here"])
def test_no_encoded_line_begins_with_a_dot_or_with_from(line: str) -> None:
    """A relay that doubles dots wrongly, or a mailbox that writes >From, would break the signature."""
    encoded = mime.quoted_printable(line)
    assert not any(part.startswith((".", "From ")) for part in encoded.split("\r\n"))
    assert quopri.decodestring(encoded.encode("ascii")).decode() == line


@given(st.binary(max_size=2000))
def test_base64_lines_decode_to_the_content(content: bytes) -> None:
    """Lines of 76 characters, and no line end after the last."""
    encoded = mime.base64_lines(content)
    assert base64.b64decode(encoded) == content
    assert all(len(line) == 76 for line in encoded.split("\r\n")[:-1])


def decoded(value: str) -> str:
    """RFC 2047 by the standard library's older reader: the newer one puts blanks between the words of a name."""
    words = email.header.decode_header(value.replace("\r\n ", "\n "))
    return "".join(part.decode(charset or "ascii") if isinstance(part, bytes) else part for part, charset in words)


@given(text)
def test_a_subject_is_read_as_it_was_written(value: str) -> None:
    """Encoded words split between characters, never inside one; one header field, whatever the text."""
    source = mime.unstructured("Subject", value)
    assert decoded(source.removeprefix("Subject: ").removesuffix("\r\n")) == value
    assert is_sound(source)


@given(names)
def test_a_display_name_is_read_as_it_was_written(value: str) -> None:
    """Commas, quotes, brackets and accents in a name do not make another address of it."""
    source = mime.address("From", value, "a.b+c@client.example")
    (mailbox,) = parsed(source + "\r\n")["From"].addresses
    assert mailbox.addr_spec == "a.b+c@client.example"
    name, address = email.utils.parseaddr(source.removeprefix("From: ").replace("\r\n", ""))
    assert (decoded(name), address) == (value, "a.b+c@client.example")
    assert is_sound(source)


@given(text.filter(lambda value: value.strip() != ""))
def test_a_file_name_is_read_as_it_was_written(value: str) -> None:
    """RFC 2231: any language, any length."""
    source = mime.attachment_part("pdf", value, b"%PDF")
    assert parsed(source).get_filename() == value.strip()  # the reader strips
    assert is_sound(source)


@given(st.sampled_from("\r\n\0\x1b\x7f\x85\u2028\u2029"), names, names)
def test_a_control_character_in_a_header_is_refused(control: str, before: str, after: str) -> None:
    """A line end begins a header field: Bcc, or a body of the attacker's."""
    value = before + control + after
    for write in (
        lambda: mime.unstructured("Subject", value),
        lambda: mime.address("From", value, "a@b.example"),
        lambda: mime.parameter("filename", value),
    ):
        with pytest.raises(Refused, match="control character"):
            write()


def test_a_delimiter_occurs_in_no_encoded_content() -> None:
    """`=_` is no quoted-printable and no base64, so no document can end its part early."""
    delimiter = mime.boundary("id@gateway.example", "mixed")
    hostile = f"--{delimiter}--\n--{delimiter}\n"
    part = mime.text_part("plain", hostile)
    message = parsed(mime.multipart("mixed", delimiter, [part, mime.attachment_part("pdf", "a.pdf", hostile.encode())]))
    first, second = message.iter_parts()
    assert first.get_content().replace("\r\n", "\n").rstrip("\n") == hostile.rstrip("\n")
    assert second.get_content() == hostile.encode()
