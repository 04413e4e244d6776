"""What the recipient reads: the facts of the document, in its language, in bytes that survive the way."""

import datetime as dt
import email
import email.policy
import re
from decimal import Decimal
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.states import Kind, Nature
from gateway.errors import Refused
from gateway.mail import texts
from gateway.mail.message import Attachment, Letter, entity, header, subject
from tests.mail.conftest import PDF, a_letter

NBSP = "\N{NO-BREAK SPACE}"
LETTERS = [
    a_letter(language=language, kind=kind, nature=nature, corrects="FA-2026/0001" * (kind is not Kind.INVOICE))
    for language in ("fr", "en")
    for kind in (Kind.INVOICE, Kind.CREDIT_NOTE, Kind.CORRECTED_INVOICE)
    for nature in (Nature.ORIGINAL, Nature.PLATFORM_COPY)
]
every_letter = pytest.mark.parametrize("letter", LETTERS, ids=lambda x: f"{x.language}-{x.kind}-{x.nature}")


def read(letter: Letter) -> EmailMessage:
    message = email.message_from_bytes(header(letter) + entity(letter), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def bodies(letter: Letter) -> tuple[str, str]:
    message = read(letter)
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None and html is not None
    return plain.get_content().replace("\r\n", "\n"), html.get_content()


@every_letter
def test_the_bytes_are_safe_on_any_way(letter: Letter) -> None:
    """CRLF only, 76 characters a line, 7 bits, no blank before a line end: each of these once broke a signature."""
    content = header(letter) + entity(letter)
    assert content.isascii()
    assert content.replace(b"\r\n", b"").translate(None, bytes(range(32, 127))) == b""
    assert max(map(len, content.split(b"\r\n"))) <= 76
    assert not re.search(rb"[ \t]\r\n", content)
    assert content.endswith(b"--\r\n")


@every_letter
def test_a_mail_reader_finds_text_html_and_the_document(letter: Letter) -> None:
    """multipart/mixed { multipart/alternative { text/plain, text/html }, application/pdf }, bytes unchanged."""
    message = read(letter)
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "application/pdf",
    ]
    assert not message.defects
    (attached,) = message.iter_attachments()
    assert attached.get_filename() == "20261005_CARD-S-77_FA-2026-0042_ORIG.pdf"
    assert attached.get_payload(decode=True) == PDF
    encodings = {part["Content-Transfer-Encoding"] for part in message.walk() if not part.is_multipart()}
    assert encodings == {"quoted-printable", "base64"}


@every_letter
def test_both_texts_name_number_contract_period_amount_and_nature(letter: Letter) -> None:
    """A reader knows from the mail alone what came, and whether it is the original."""
    words = texts.WORDS[letter.language]
    for body in bodies(letter):
        for value in (
            letter.number,
            letter.contract,
            texts.day(letter.language, letter.issue_date),
            texts.day(letter.language, dt.date(2026, 9, 30)),
            texts.amount(letter.language, Decimal("1234.56"), "EUR"),
            words.kinds[letter.kind],
            letter.corrects,
        ):
            assert value in body
        assert words.natures[letter.nature].replace("'", "&#x27;" if "<" in body else "'") in body


def test_a_platform_copy_is_never_called_the_original() -> None:
    """Subject, opening and table say that it is a copy, and where the original comes from."""
    copy, original = LETTERS[1], LETTERS[0]
    assert subject(copy).startswith("Copie : Facture FA-2026/0042")
    plain, _ = bodies(copy)
    assert "une copie de la facture FA-2026/0042" in plain
    assert "L'original vous est transmis par une plateforme agréée" in plain
    assert "Nature : Copie de l'original" in plain
    assert "l'original de la facture FA-2026/0042" in bodies(original)[0]
    assert "copie" not in bodies(original)[0].lower()


def test_a_french_mail_reads_so() -> None:
    """The whole text, once, as the accountant sees it."""
    letter = a_letter(kind=Kind.CREDIT_NOTE, number="AV-7", corrects="FA-6")
    assert subject(letter) == "Avoir AV-7 du 05/10/2026, contrat CARD-S-77"
    assert bodies(letter)[0] == (
        "Bonjour,\n\n"
        "Réseau de l'Érable vous adresse, en pièce jointe, l'original de l'avoir AV-7.\n\n"
        "Document : Avoir\n"
        "Numéro : AV-7\n"
        "Se rapporte à la facture : FA-6\n"
        "Date d'émission : 05/10/2026\n"
        "Période : du 01/09/2026 au 30/09/2026\n"
        "Contrat : CARD-S-77\n"
        "Société : Société Bœuf & Fils\n"
        f"Montant TTC : 1{NBSP}234,56{NBSP}€\n"
        "Nature : Original\n\n"
        "Le document joint porte un cachet électronique. Conservez le fichier tel que vous l'avez reçu : imprimé ou "
        "modifié, il ne porte plus ce cachet.\n\n"
        "Ce message est signé (S/MIME) : votre logiciel de messagerie en vérifie l'expéditeur et le contenu.\n\n"
        "Ce message est envoyé automatiquement.\n\n"
        "Réseau de l'Érable\n"
    )


@every_letter
def test_there_is_nothing_to_click(letter: Letter) -> None:
    """A mail that asks to click and pay is what fraud looks like: ours holds no link, image, form or script."""
    _, html = bodies(letter)
    assert not re.search(r"<(a|img|form|script|link|iframe|button)\b|https?:|mailto:|tel:|www\.|\bIBAN\b", html, re.I)


def test_names_from_outside_are_text_in_the_html() -> None:
    """A company may be called anything."""
    _, html = bodies(a_letter(company_name="<b>A & B</b>", issuer_name='"C" <script>'))
    assert "&lt;b&gt;A &amp; B&lt;/b&gt;" in html
    assert "<script>" not in html


def test_the_header_says_who_when_and_that_a_machine_sent_it() -> None:
    """RFC 5322; RFC 3834 keeps vacation programs quiet; Date is UTC and in English whatever the locale."""
    message = read(a_letter())
    assert message["From"] == "Réseau de l'Érable <factures@gateway.example>"
    assert message["To"] == "compta@client.example"
    assert message["Subject"] == "Facture FA-2026/0042 du 05/10/2026, contrat CARD-S-77"
    assert message["Date"] == "Tue, 06 Oct 2026 07:30:00 +0000"
    assert message["Message-ID"] == "<dlv_01hzy3v7j2k4m6n8p0q2r4s6t8@gateway.example>"
    assert message["MIME-Version"] == "1.0"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Content-Language"] == "fr"


def test_composing_twice_gives_the_same_bytes() -> None:
    """Nothing in them comes from the clock or from chance, so a message can be made again and compared."""
    assert header(a_letter()) + entity(a_letter()) == header(a_letter()) + entity(a_letter())
    other = a_letter(message_id="other@gateway.example")
    assert entity(other) != entity(a_letter())  # the delimiters


@given(st.binary(max_size=3000), st.sampled_from(["pdf", "xml"]))
def test_any_file_arrives_byte_for_byte(content: bytes, subtype: str) -> None:
    """So its SHA-256 equals the archive's."""
    letter = a_letter(attachments=(Attachment("a.pdf", "pdf", PDF), Attachment("é.bin", subtype, content)))
    first, second = read(letter).iter_attachments()
    assert [first.get_payload(decode=True), second.get_payload(decode=True)] == [PDF, content]
    assert (second.get_filename(), second.get_content_type()) == ("é.bin", f"application/{subtype}")


STRINGS = ["from_address", "from_name", "to_address", "message_id", "issuer_name", "company_name", "number", "contract",
           "currency", "corrects"]  # fmt: skip


@given(st.sampled_from(STRINGS), st.sampled_from(["\r\nBcc: x@y.example", "\n", "\r", "\0", "\u2028"]), st.data())
def test_no_value_begins_a_header_field(field: str, injected: str, data: st.DataObject) -> None:
    """Header injection ends at the letter: none exists with a line end or another control in any value."""
    value: str = getattr(a_letter(), field)
    position = data.draw(st.integers(0, len(value)))
    with pytest.raises(Refused):
        a_letter(**{field: value[:position] + injected + value[position:]})


def test_no_file_name_begins_a_header_field() -> None:
    """The same for names of attachments."""
    with pytest.raises(Refused, match="filename"):
        entity(a_letter(attachments=(Attachment("a\r\nX: y.pdf", "pdf", PDF),)))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"to_address": "compta"}, "address_format"),
        ({"to_address": "a@b.example>,<c@d.example"}, "address_format"),
        ({"from_address": "é@b.example"}, "address_format"),
        ({"message_id": "<a@b>"}, "message_id_format"),
        ({"message_id": "no-at-sign"}, "message_id_format"),
        ({"nature": Nature.DUPLICATE}, "not_mailed"),
        ({"kind": Kind.CONTRACT}, "not_mailed"),
    ],
)
def test_a_letter_that_cannot_be_sent_does_not_exist(changes: dict[str, Any], code: str) -> None:
    """A duplicate is never delivered; the kinds without nature go to the portal."""
    with pytest.raises(Refused) as refused:
        a_letter(**changes)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("language", "value", "currency", "written"),
    [
        ("fr", "1234567.5", "EUR", f"1{NBSP}234{NBSP}567,50{NBSP}€"),
        ("fr", "0", "EUR", f"0,00{NBSP}€"),
        ("fr", "-12.3", "EUR", f"-12,30{NBSP}€"),
        ("fr", "99.9999", "CHF", f"99,9999{NBSP}CHF"),
        ("en", "1234.56", "EUR", "€1,234.56"),
        ("en", "-1234.56", "EUR", "-€1,234.56"),
        ("en", "1E+3", "USD", "USD 1,000.00"),
    ],
)
def test_an_amount_is_written_as_its_readers_write_it(
    language: texts.Language, value: str, currency: str, written: str
) -> None:
    """No digit is rounded away."""
    assert texts.amount(language, Decimal(value), currency) == written


def test_a_day_is_not_mistaken() -> None:
    """05/10 is May the tenth for some readers of English."""
    assert texts.day("fr", dt.date(2026, 10, 5)) == "05/10/2026"
    assert texts.day("en", dt.date(2026, 10, 5)) == "5 October 2026"
