"""What a mail says, in French and in English: the words, and how each language writes a day, a period, an amount.

No addresses to click and no payment detail, whatever the language: nothing in the mail invites anyone to pay
somewhere. No article of law either. A platform copy is never called an original (DOMAIN: nature).
"""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from ..domain.states import Kind, Nature

Language = Literal["fr", "en"]
_NBSP = "\N{NO-BREAK SPACE}"
_MONTHS = (  # not the locale's: it differs from machine to machine
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


@dataclass(frozen=True)
class Words:
    """The texts of one language; `{number}` and the like are filled in by `message`.

    `kinds` names a kind alone, `of_kinds` after "of" (French elides: l'original de l'avoir).
    """

    kinds: dict[Kind, str]
    of_kinds: dict[Kind, str]
    natures: dict[Nature, str]
    subject: dict[Nature, str]
    greeting: str
    opening: dict[Nature, str]
    seal: dict[Nature, str]
    signature: str
    closing: str
    row: str  # one line of the table, in the plain text
    kind: str
    number: str
    issue_date: str
    contract: str
    company: str
    period: str
    total: str
    nature: str
    corrects: str


FRENCH = Words(
    kinds={
        Kind.INVOICE: "Facture",
        Kind.CREDIT_NOTE: "Avoir",
        Kind.CORRECTED_INVOICE: "Facture rectificative",
    },
    of_kinds={
        Kind.INVOICE: "de la facture",
        Kind.CREDIT_NOTE: "de l'avoir",
        Kind.CORRECTED_INVOICE: "de la facture rectificative",
    },
    natures={
        Nature.ORIGINAL: "Original",
        Nature.PLATFORM_COPY: "Copie de l'original transmis par une plateforme agréée",
    },
    subject={
        Nature.ORIGINAL: "{kind} {number} du {issue_date}, contrat {contract}",
        Nature.PLATFORM_COPY: "Copie : {kind} {number} du {issue_date}, contrat {contract}",
    },
    greeting="Bonjour,",
    opening={
        Nature.ORIGINAL: "{issuer} vous adresse, en pièce jointe, l'original {of_kind} {number}.",
        Nature.PLATFORM_COPY: "{issuer} vous adresse, en pièce jointe, une copie {of_kind} {number}. "
        "L'original vous est transmis par une plateforme agréée ; ce document en est la copie.",
    },
    seal={
        Nature.ORIGINAL: "Le document joint porte un cachet électronique. Conservez le fichier tel que vous l'avez "
        "reçu : imprimé ou modifié, il ne porte plus ce cachet.",
        Nature.PLATFORM_COPY: "Le document joint porte un cachet électronique.",
    },
    signature="Ce message est signé (S/MIME) : votre logiciel de messagerie en vérifie l'expéditeur et le contenu.",
    closing="Ce message est envoyé automatiquement.",
    row="{label} : {value}",
    kind="Document",
    number="Numéro",
    issue_date="Date d'émission",
    contract="Contrat",
    company="Société",
    period="Période",
    total="Montant TTC",
    nature="Nature",
    corrects="Se rapporte à la facture",
)

ENGLISH = Words(
    kinds={
        Kind.INVOICE: "Invoice",
        Kind.CREDIT_NOTE: "Credit note",
        Kind.CORRECTED_INVOICE: "Corrected invoice",
    },
    of_kinds={
        Kind.INVOICE: "of invoice",
        Kind.CREDIT_NOTE: "of credit note",
        Kind.CORRECTED_INVOICE: "of corrected invoice",
    },
    natures={
        Nature.ORIGINAL: "Original",
        Nature.PLATFORM_COPY: "Copy of the original sent through an approved platform",
    },
    subject={
        Nature.ORIGINAL: "{kind} {number} of {issue_date}, contract {contract}",
        Nature.PLATFORM_COPY: "Copy: {kind} {number} of {issue_date}, contract {contract}",
    },
    greeting="Dear customer,",
    opening={
        Nature.ORIGINAL: "{issuer} sends you, attached, the original {of_kind} {number}.",
        Nature.PLATFORM_COPY: "{issuer} sends you, attached, a copy {of_kind} {number}. "
        "The original reaches you through an approved platform; this document is its copy.",
    },
    seal={
        Nature.ORIGINAL: "The attached document carries an electronic seal. Keep the file as you received it: "
        "printed or modified, it no longer carries the seal.",
        Nature.PLATFORM_COPY: "The attached document carries an electronic seal.",
    },
    signature="This message is signed (S/MIME): your mail program verifies its sender and its content.",
    closing="This message was generated automatically.",
    row="{label}: {value}",
    kind="Document",
    number="Number",
    issue_date="Issue date",
    contract="Contract",
    company="Company",
    period="Period",
    total="Total including VAT",
    nature="Nature",
    corrects="Refers to invoice",
)

WORDS: dict[Language, Words] = {"fr": FRENCH, "en": ENGLISH}


def day(language: Language, date: dt.date) -> str:
    """`05/10/2026` in French; `5 October 2026` in English, where 05/10 means two things."""
    if language == "fr":
        return f"{date.day:02}/{date.month:02}/{date.year:04}"
    return f"{date.day} {_MONTHS[date.month - 1]} {date.year}"


def period(language: Language, first: dt.date, last: dt.date) -> str:
    """Both days belong to it."""
    joined = "du {} au {}" if language == "fr" else "{} to {}"
    return joined.format(day(language, first), day(language, last))


def amount(language: Language, value: Decimal, currency: str) -> str:
    """`1 234,56 €` or `€1,234.56`; another currency by its ISO 4217 code. Two decimals, or more where there are."""
    exponent = value.as_tuple().exponent
    text = f"{value:,.{max(2, -exponent) if isinstance(exponent, int) else 2}f}"
    if language == "fr":
        return f"{text.replace(',', _NBSP).replace('.', ',')}{_NBSP}{'€' if currency == 'EUR' else currency}"
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    return f"{sign}€{digits}" if currency == "EUR" else f"{currency} {text}"
