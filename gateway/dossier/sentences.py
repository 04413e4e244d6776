"""The sentence of every event that the ledger holds of documents, deliveries, folders and parties.

A template names facts of the record as `{fact}`; a part in square brackets is left out when one of its facts, or the
fact after its bar, is missing or says nothing. The names that explain.py adds to a record's own facts are in ADDED.
Pure functions.
"""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

# where a delivery goes: "mailbox a@b.example", "folder acme"; what opened a session: "key SHA256:…", "password fpw_…"
ADDED = frozenset({"where", "credential"})
_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_NAME = re.compile(r"\{(\w+)\}|\|(\w+)$")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

SENTENCES = {
    # the document
    "document.received": "Received by {source} from {actor}: {size} bytes, SHA-256 {sha256}.[ Nature {nature}: "
    "{nature_reason}.]",
    "document.submitted_again": "Handed in again by {source} from {actor}, the same bytes: nothing changed.",
    "document.refused": "Refused from {actor} by {source}: {reason} ({code}).",
    "document.same_bytes_for_two_clients": "Document {other}, another client's, has the same bytes.",
    "document.quarantined": "Put into quarantine: {reason}.",
    "document.accepted": "{actor} let it out of quarantine[: {reason}].[ Nature {nature}: {nature_reason}.]",
    "document.rejected": "{actor} rejected it[: {reason}]; its bytes stay as evidence.",
    "document.replaced": "{actor} replaced it by document {by}[: {reason}].",
    "document.waiting": "Waits to be sealed: {reason}.",
    "document.sealed": "Sealed (PAdES {level}) by {signer}; the sealed bytes have SHA-256 {sha256}.",
    "document.undelivered": "Goes nowhere for now: {reason}.",
    "document.withdrawn": "{actor} withdrew it[: {reason}].[ Mail that had left is not recalled: {mail_that_left}.]",
    "duplicate.made": "Its stamped duplicate was made at the first request: {size} bytes, SHA-256 {sha256}.",
    # its deliveries
    "delivery.planned": "Planned for {where}[, repeat number {again}][, which {actor} asked for][: {because}].",
    "delivery.held": "Held back from {where}[: {reason}][: {reply}].",
    "delivery.ordered_again": "{actor} ordered another delivery to {where}[: {reason}].",
    "delivery.claimed": "Taken up for {where}.",
    "delivery.attempting": "Attempt {number} to reach {where} begins[; it may arrive twice|maybe_again].",
    "message.composed": "Mail composed, signed and stored: Message-ID <{message_id}>, {size} bytes, SHA-256 {sha256}.",
    "message.forgotten": "The stored mail was removed as the settings say; its SHA-256 and headers stay.",
    "delivery.deferred": "{where} could not take it yet[ (at {phase})][: {reply}][; tried again at {next_attempt}].",
    "delivery.uncertain": "Nobody knows whether {where} took it[: {reply}][; the same bytes again at {next_attempt}].",
    "delivery.lease_expired": "The attempt for {where} did not end in time[: {reply}].",
    "delivery.accepted": "The next mail server[, {relay},] took responsibility for {where}[: {reply}][, queue id "
    "{remote_queue_id}]. This is not yet proof of delivery.",
    "delivery.delivered": "Delivered to {where}[: {reply}].",
    "delivery.bounced": "Came back from {where}[: {reply}].",
    "delivery.failed": "Failed for {where}[: {reason}][: {reply}].",
    "delivery.retried": "{actor} asked for another try for {where}[: {reason}].",
    "delivery.released": "{actor} released it for {where}[: {reason}].",
    "delivery.cancelled": "Cancelled for {where}[ by {actor}][: {reason}][; the attempt under way ended {outcome}]"
    "[: {reply}].",
    "attempt.ended_late": "An attempt for {where} ended after its time was over: {outcome}[: {reply}].",
    # in the drop folder
    "delivery.published": "Published in {where} as {name}, number {sequence} of the folder, {size} bytes, "
    "SHA-256 {sha256}.",
    "delivery.received": "Received by the client from {where}: {how}.",
    "delivery.expired": "Its time in the inbox of {where} ended without a receipt.",
    "delivery.expired_unread": "Its time in the inbox of {where} ended without a receipt.",
    "delivery.withdrawn": "Taken out of {where}[ by {actor}][: {reason}].",
    "entry.read": "Read in {where} by {credential} from {address}: {bytes} of {size} bytes[, by now all|fully_read].",
    "entry.removed": "Deleted in {where} by {credential} from {address}, after a full read.",
    "entry.removed_unread": "Deleted in {where} by {credential} from {address} before a full read: this is no receipt"
    "[; {unconfirmed} bytes were sent over a connection that was lost, and nothing confirmed that they arrived].",
    "entry.renamed": "Renamed in {where} by {credential} from {address} to {target}.",
    "entry.returned": "Renamed and not read in full for too long: back in {where} as {name}.",
    "entry.expired": "The file {name} left the inbox of {where}: nobody had received it in time; the archive keeps it.",
    "entry.received": "The file {name} in {where} counts as received: {how}[ by {actor}].",
    "entry.withdrawn": "Its name in {where} is withdrawn from inbox and archive.",
    # the parties
    "client.created": "{actor} made the client {name}.",
    "client.dry_run_begun": "{actor} put the client into dry run[: {reason}]; {held} deliveries were held.",
    "client.dry_run_ended": "{actor} ended the client's dry run[: {reason}]; {deliveries} deliveries were {outcome}.",
    "client.changed": "{actor} changed the client: {name}, language {language}.",
    "company.created": "{actor} entered the company {name}, {siren}, of client {client_id} from {from_day}.",
    "company.moved": "{actor} moved the company to client {client_id} from {from_day}.",
    "company.renamed": "{actor} renamed the company to {name}.",
    "contract.created": "{actor} entered the contract {number}, type {type}, of company {company_id} from {from_day}.",
    "contract.moved": "{actor} moved the contract to company {company_id} from {from_day}.",
    "original_channel.changed": "{actor} set where originals go from {from_day}: {channel}.",
    "subscription.started": "{actor} subscribed contract {contract_id} from {from_day}[ to {to_day}], terms "
    "{terms_version}[: {reason}].",
    "subscription.ended": "{actor} ended the subscription of contract {contract_id} after {to_day}[: {reason}].",
    "future_subscription.started": "{actor} subscribed later contracts too, from {from_day}, terms {terms_version}.",
    "future_subscription.ended": "{actor} ended the subscription of later contracts after {to_day}.",
    "mailbox.added": "{actor} entered the address {address}.",
    "mailbox.confirmed": "{actor} confirmed the address.",
    "settings.changed": "{actor} changed how documents are delivered.",
    "folder.created": "{actor} made the drop folder {user_name}, formats {formats}, receipt by {receipt_mode}.",
    "folder.changed": "{actor} changed the drop folder's rules[; formats {formats}][; receipt by {receipt_mode}]"
    "[; layout {layout}][; names {name_template}][; {inbox_days} days in the inbox]"
    "[; {linger_minutes} minutes to linger].",
    "history.withdrawn": "{actor} took {files} files of the server before out of the archive: {reason}.",
    "history.imported": "{actor} imported {files} files of the server before into the archive, {bytes} bytes; their "
    "list has SHA-256 {list_sha256}.",
    "folder.asked_again": "{actor} asked for {documents} documents again[ from number {first}][ up to number {last}]"
    "[ from {from_day}][ to {to_day}][: {reason}].",
    "test_document.made": "{actor} had the test document {name} made: {size} bytes, SHA-256 {sha256}[: {reason}].",
    "test_document.read": "The test document {name} was read by {credential} from {address}: {bytes} of {size} bytes"
    "[, by now all|fully_read]. This is no receipt.",
    "test_document.removed": "The test document {name} was deleted[ by {actor}][ by {credential}][, after a full read"
    "|fully_read].",
    "manifest.made": "The manifest of {day} was made and signed, up to number {last_sequence}: SHA-256 {sha256}.",
    "folder.path_map_changed": "{actor} changed the paths of the server before[: {paths}].",
    "folder.networks_changed": "{actor} changed from where the folder's client may come[: {networks}].",
    "key.added": "{actor} let the key {fingerprint} open the folder[, until {expires_at}].",
    "key.revoked": "{actor} revoked the key {fingerprint}.",
    "permit.added": "{actor} let the client come to the legacy SFTP listener until {ends_at}: {reason}.",
    "permit.revoked": "{actor} ended the permit of the legacy SFTP listener.",
    "password.added": "{actor} let a new password open the folder[, until {expires_at}].",
    "password.revoked": "{actor} revoked the password.",
    "session.cut_off": "A session by {protocol} with {credential}[ from {address}] was cut off: the gateway's process "
    "ended. It saw numbers up to {highest_sequence}.",
    "session.ended": "A session by {protocol} with {credential} from {address} ended; it saw numbers up to "
    "{highest_sequence}.",
    "token.created": "{actor} made the token {name} with scope {scope}[, until {expires_at}].",
    "token.revoked": "{actor} revoked the token.",
}


def sentence(event: str, facts: Mapping[str, Any]) -> str:
    """The event in words; an event without a sentence is told by its name, a missing fact by a question mark."""
    template = SENTENCES.get(event)
    if template is None:
        return f"{event.replace('.', ' ').replace('_', ' ').capitalize()}."
    kept = _BRACKET.sub(lambda match: _if_known(match[1], facts), template)
    text = _NAME.sub(lambda match: _must(facts.get(match[1])), kept)
    return text[0].upper() + text[1:]


def required(template: str) -> frozenset[str]:
    """The facts that a template cannot do without."""
    return _names(_BRACKET.sub("", template))


def _names(part: str) -> frozenset[str]:
    return frozenset(inside or after for inside, after in _NAME.findall(part))


def _if_known(part: str, facts: Mapping[str, Any]) -> str:
    return part.partition("|")[0] if all(word(facts.get(name)) for name in _names(part)) else ""


def _must(value: Any) -> str:
    return "0" if value == 0 and value is not False else word(value) or "?"


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
