"""The sentence of every event that the ledger holds of documents, deliveries, folders and parties.

A template names facts of the record as `{fact}`; a part in square brackets is left out when one of its facts is
missing or empty. The names that explain.py adds to a record's own facts are in ADDED. Pure functions.
"""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

ADDED = frozenset({"where"})  # where a delivery goes: "mailbox a@b.example", "folder acme"
_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_NAME = re.compile(r"\{(\w+)\}")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

SENTENCES = {
    # the document
    "document.sealed": "Sealed (PAdES {level}) by {signer}; the sealed bytes have SHA-256 {sha256}.",
    "document.waiting": "Waits to be sealed: {reason}.",
    "document.quarantined": "Put into quarantine: {reason}.",
    "document.withdrawn": "Withdrawn by {actor}[: {reason}].[ Mail that had left is not recalled: {mail_that_left}.]",
    # its deliveries
    "delivery.planned": "Planned for {where}[, again, for the {again}. time].",
    "delivery.held": "Held back from {where}[: {reason}][: {reply}].",
    "delivery.ordered_again": "{actor} ordered another delivery of the same document[: {reason}].",
    "delivery.attempting": "Attempt {number} to reach {where} begins[; it may arrive twice: {maybe_again}].",
    "message.composed": "Mail composed, signed and stored: Message-ID <{message_id}>, {size} bytes, SHA-256 {sha256}.",
    "delivery.deferred": "{where} could not take it yet[ (at {phase})][: {reply}][; tried again at {next_attempt}].",
    "delivery.uncertain": "Nobody knows whether {where} took it[: {reply}][; the same bytes again at {next_attempt}].",
    "delivery.accepted": "The next mail server[, {relay},] took responsibility for {where}[: {reply}][, queue id "
    "{remote_queue_id}]. This is not yet proof of delivery.",
    "delivery.delivered": "Delivered to {where}[: {reply}].",
    "delivery.bounced": "Came back from {where}[: {reply}].",
    "delivery.failed": "Failed for {where}[: {reason}][: {reply}].",
    "delivery.retried": "{actor} asked for another try for {where}.",
    "delivery.released": "{actor} released it for {where}[: {reason}].",
    "delivery.cancelled": "Cancelled for {where}[ by {actor}][: {reason}].",
    "attempt.ended_late": "An attempt for {where} ended after its time was over: {outcome}[: {reply}].",
    # in the drop folder
    "delivery.published": "Published in {where} as {name}, number {sequence} of the folder, {size} bytes, "
    "SHA-256 {sha256}.",
    "delivery.received": "Received: the client has taken it from {where}.",
    "delivery.expired_unread": "Its time in the inbox of {where} ended unread.",
    "delivery.withdrawn": "Taken out of {where}[ by {actor}][: {reason}].",
    "entry.withdrawn": "Its name in the folder is withdrawn from inbox and archive.",
}


def sentence(event: str, facts: Mapping[str, Any]) -> str:
    """The event in words; an event without a sentence is told by its name, a missing fact by a question mark."""
    template = SENTENCES.get(event)
    if template is None:
        return f"{event.replace('.', ' ').replace('_', ' ').capitalize()}."
    kept = _BRACKET.sub(lambda match: _if_known(match[1], facts), template)
    text = _NAME.sub(lambda match: word(facts.get(match[1])) or "?", kept)
    return text[0].upper() + text[1:]


def names(template: str) -> frozenset[str]:
    """The facts that a template speaks of."""
    return frozenset(_NAME.findall(template))


def _if_known(part: str, facts: Mapping[str, Any]) -> str:
    return part if all(word(facts.get(name)) for name in _NAME.findall(part)) else ""


def word(value: Any) -> str:
    """A fact as a word of a sentence; empty for what says nothing: None, False, 0, nothing in a list."""
    match value:
        case None | False | 0 | "":
            return ""
        case True:
            return "yes"
        case dict():
            return str(value.get("value") or value.get("id") or "")
        case list() | tuple():
            return ", ".join(filter(None, map(word, value)))
        case str() if _INSTANT.fullmatch(value):
            return instant(dt.datetime.fromisoformat(value))
    return str(value).rstrip(".")


def instant(at: dt.datetime) -> str:
    """An instant as every text of the gateway shows it."""
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
