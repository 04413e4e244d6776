"""Compose what the recipient reads: the MIME entity that is signed, and the header fields around it.

RFC 5322, RFC 2046: multipart/mixed { multipart/alternative { text/plain, text/html }, application/pdf … }.
The bytes depend on the Letter alone, so that composing it again gives the same ones. Refused when a value
could begin a header of its own, when an address is none, or when the document is not of the mailed kinds.
"""

import dataclasses
import datetime as dt
import email.utils
import html
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from ..domain.identifiers import mail_address
from ..domain.states import Kind, Nature
from ..errors import Refused
from . import mime, texts
from .texts import Language

_MESSAGE_ID = re.compile(r"[A-Za-z0-9._+-]{1,100}@[A-Za-z0-9.-]{1,99}")


class Attachment(NamedTuple):
    """A file of the mail: `application/<subtype>`, kept by the reader under `file_name`."""

    file_name: str
    subtype: str
    content: bytes


@dataclasses.dataclass(frozen=True)
class Letter:
    """One mail to one mailbox about one document; valid by construction (Refused)."""

    language: Language
    from_address: str  # of the setting, and in the S/MIME certificate
    from_name: str
    to_address: str
    message_id: str  # RFC 5322 3.6.4, without angle brackets; the same at every attempt
    date: dt.datetime  # aware; of composing, not of sending
    issuer_name: str
    company_name: str
    kind: Kind
    nature: Nature
    number: str
    contract: str
    issue_date: dt.date
    attachments: tuple[Attachment, ...]
    period: tuple[dt.date, dt.date] | None = None  # first and last day
    total: Decimal | None = None  # BT-112, with VAT
    currency: str = ""  # ISO 4217
    corrects: str = ""  # number of the invoice that this one corrects

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(value := getattr(self, field.name), str):
                mime.checked(value, field.name)
        mail_address(self.from_address)
        mail_address(self.to_address)
        if not _MESSAGE_ID.fullmatch(self.message_id):
            raise Refused(f"not a Message-ID: {self.message_id[:80]!r}", code="message_id_format")
        words = texts.WORDS[self.language]
        if self.kind not in words.kinds or self.nature not in words.natures:
            raise Refused(f"a {self.kind} of nature {self.nature} is not sent by mail", code="not_mailed")


class _Page(NamedTuple):
    """What both texts say."""

    language: Language
    title: str
    before: tuple[str, ...]  # paragraphs
    rows: tuple[tuple[str, str], ...]  # label, value
    after: tuple[str, ...]


def subject(letter: Letter) -> str:
    """The subject, decoded."""
    return texts.WORDS[letter.language].subject[letter.nature].format(**_values(letter))


def header(letter: Letter) -> bytes:
    """The header fields of the message but the entity's own (Content-…), CRLF after each; RFC 5322, RFC 3834."""
    fields = (
        mime.address("From", letter.from_name, letter.from_address),
        mime.address("To", "", letter.to_address),
        mime.unstructured("Subject", subject(letter)),
        f"Date: {email.utils.format_datetime(letter.date)}\r\n",
        f"Message-ID: <{letter.message_id}>\r\n",
        "MIME-Version: 1.0\r\n",
        "Auto-Submitted: auto-generated\r\n",
        f"Content-Language: {letter.language}\r\n",
    )
    return "".join(fields).encode("ascii")


def entity(letter: Letter) -> bytes:
    """The entity that is signed: its Content-Type, an empty line, its body, CRLF at the end."""
    page = _page(letter)
    alternative = mime.multipart(
        "alternative",
        mime.boundary(letter.message_id, "alternative"),
        [mime.text_part("plain", _plain(page)), mime.text_part("html", _html(page))],
    )
    files = [mime.attachment_part(file.subtype, file.file_name, file.content) for file in letter.attachments]
    delimiter = mime.boundary(letter.message_id, "mixed")
    return mime.multipart("mixed", delimiter, [alternative, *files]).encode("ascii")


def _values(letter: Letter) -> dict[str, str]:
    words = texts.WORDS[letter.language]
    return {
        "issuer": letter.issuer_name,
        "kind": words.kinds[letter.kind],
        "of_kind": words.of_kinds[letter.kind],
        "number": letter.number,
        "issue_date": texts.day(letter.language, letter.issue_date),
        "contract": letter.contract,
    }


def _rows(letter: Letter) -> Iterator[tuple[str, str]]:
    words, values = texts.WORDS[letter.language], _values(letter)
    yield words.kind, values["kind"]
    yield words.number, letter.number
    if letter.corrects:
        yield words.corrects, letter.corrects
    yield words.issue_date, values["issue_date"]
    if letter.period is not None:
        yield words.period, texts.period(letter.language, *letter.period)
    yield words.contract, letter.contract
    yield words.company, letter.company_name
    if letter.total is not None:
        yield words.total, texts.amount(letter.language, letter.total, letter.currency)
    yield words.nature, words.natures[letter.nature]


def _page(letter: Letter) -> _Page:
    words = texts.WORDS[letter.language]
    opening = words.opening[letter.nature].format(**_values(letter))
    closing = (words.seal[letter.nature], words.signature, words.closing, letter.issuer_name)
    return _Page(letter.language, subject(letter), (words.greeting, opening), tuple(_rows(letter)), closing)


def _plain(page: _Page) -> str:
    row = texts.WORDS[page.language].row
    table = "\n".join(row.format(label=label, value=value) for label, value in page.rows)
    return "\n\n".join((*page.before, table, *page.after))


def _html(page: _Page) -> str:
    rows = [(html.escape(label), html.escape(value)) for label, value in page.rows]
    return "\n".join(
        (
            f'<!DOCTYPE html>\n<html lang="{page.language}"><head><meta charset="utf-8">',
            # Mail readers on telephones make links of numbers and dates: here a number is nothing to click.
            '<meta name="format-detection" content="telephone=no, date=no, address=no, email=no, url=no">',
            f"<title>{html.escape(page.title)}</title></head><body>",
            *(f"<p>{html.escape(text)}</p>" for text in page.before),
            "<table>",
            *(f'<tr><th align="left">{label}</th><td>{value}</td></tr>' for label, value in rows),
            "</table>",
            *(f"<p>{html.escape(text)}</p>" for text in page.after),
            "</body></html>",
        )
    )
