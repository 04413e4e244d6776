"""How documents reach a client: e-mail, drop folder, or both; dated, with its history.

Settings hold for a client, or for one company or contract of it: contract over company over client. A change closes
the row in force and opens another, so that the settings of any instant can be told. Mail addresses are rows of their
own (Mailbox): one that an operator enters is confirmed by that; one that a client enters waits for its confirmation
while the addresses before it serve.

Refused: no channel at all, no or too many addresses, an unknown format or receipt mode. NotFound: a company or
contract that the client never held.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlmodel import col, or_, select

from .. import evidence
from ..access import Actor, Permission, client_for
from ..domain import identifiers
from ..domain.folders import Folder, FolderContract
from ..domain.parties import CompanyHolding, DeliverySettings, Mailbox
from ..errors import Conflict, Denied, NotFound, Refused
from ..store.database import Transaction
from .folders import Rules, change_folder
from .holders import contracts_of

MAX_ADDRESSES = 20


@dataclass(frozen=True)
class ByEmail:
    """The e-mail channel: on or off, and where to."""

    enabled: bool = False
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class ByFolder:
    """The folder channel. Formats and receipt mode are the client's folder's; None leaves them as they are."""

    enabled: bool = False
    formats: tuple[str, ...] | None = None
    receipt: str | None = None

    @property
    def rules(self) -> Rules:
        """What of the folder is to be changed."""
        rules = Rules()
        if self.formats is not None:
            rules["formats"] = self.formats
        if self.receipt is not None:
            rules["receipt"] = self.receipt
        return rules


def set_delivery_settings(
    tx: Transaction,
    actor: Actor,
    client_id: str,
    email: ByEmail,
    folder: ByFolder,
    *,
    at: dt.datetime,
    company_id: str | None = None,
    contract_id: str | None = None,
    other_kinds_in_folder: bool = False,
) -> DeliverySettings:
    """Settings of a client, or of its company or contract, from the instant `at` on. The same again changes nothing."""
    client_for(tx, actor, Permission.SETTINGS_MANAGE, client_id, hold=True)
    subject = _subject(tx, client_id, company_id, contract_id)
    if not email.enabled and not folder.enabled:
        raise Refused("at least one channel must be on: e-mail, drop folder, or both", code="no_channel")
    if folder.rules:
        _change_folder(tx, actor, subject, folder)
    new = DeliverySettings(
        **subject,
        valid_from=at,
        email_enabled=email.enabled,
        mailbox_ids=[box.id for box in _mailboxes(tx, actor, client_id, _addresses(email), at)],
        folder_enabled=folder.enabled,
        other_kinds_in_folder=other_kinds_in_folder,
        created_by=actor.id,
    )
    return _replace(tx, actor, new)


def _subject(tx: Transaction, client_id: str, company_id: str | None, contract_id: str | None) -> dict[str, Any]:
    if company_id is not None and contract_id is not None:
        raise Refused("settings are for a company or for a contract, not for both at once", code="settings_subject")
    if company_id is not None:
        held = select(CompanyHolding).where(
            CompanyHolding.company_id == company_id, CompanyHolding.client_id == client_id
        )
        if tx.exec(held).first() is None:
            raise NotFound("the client holds no such company", code="unknown_company")
    if contract_id is not None and contract_id not in set(tx.execute(contracts_of(client_id)).scalars()):
        raise NotFound("the client holds no such contract", code="unknown_contract")
    return {"client_id": client_id, "company_id": company_id, "contract_id": contract_id}


def _addresses(email: ByEmail) -> list[str]:
    addresses = list(dict.fromkeys(identifiers.mail_address(address.strip()) for address in email.addresses))
    if email.enabled and not addresses:
        raise Refused("e-mail needs at least one address", code="no_address")
    if len(addresses) > MAX_ADDRESSES:
        raise Refused(f"at most {MAX_ADDRESSES} addresses", code="too_many_addresses")
    return addresses


def _change_folder(tx: Transaction, actor: Actor, subject: dict[str, Any], wanted: ByFolder) -> None:
    if subject["company_id"] or subject["contract_id"]:
        raise Refused("formats and receipt mode are set for the client: they are its folder's", code="folder_of_client")
    oldest = select(Folder).where(Folder.client_id == subject["client_id"]).order_by(col(Folder.id))
    folder = tx.exec(oldest).first()
    if folder is None:
        raise Conflict("the client has no drop folder", code="no_folder")
    change_folder(tx, actor, folder, wanted.rules)


def _mailboxes(tx: Transaction, actor: Actor, client_id: str, addresses: list[str], at: dt.datetime) -> list[Mailbox]:
    """The rows of the addresses, in their order; new ones are made, and confirmed when an operator entered them."""
    rows = select(Mailbox).where(Mailbox.client_id == client_id, col(Mailbox.address).in_(addresses))
    known = {box.address: box for box in tx.exec(rows)}
    boxes = [known.get(address) or _new_mailbox(tx, actor, client_id, address, at) for address in addresses]
    for box in boxes:
        if actor.kind == "operator":
            _confirm(tx, actor, box, at)
    return boxes


def _new_mailbox(tx: Transaction, actor: Actor, client_id: str, address: str, at: dt.datetime) -> Mailbox:
    box = Mailbox(client_id=client_id, address=address, created_at=at)
    tx.add(box)
    tx.flush()
    value = evidence.personal(tx, "mailbox", address)
    evidence.record(tx, "mailbox.added", box.id, actor=actor.id, client_id=client_id, address=value)
    return box


def _confirm(tx: Transaction, actor: Actor, box: Mailbox, at: dt.datetime) -> None:
    if box.confirmed_at is None:
        box.confirmed_at, box.confirmed_by = at, actor.id
        tx.add(box)
        evidence.record(tx, "mailbox.confirmed", box.id, actor=actor.id)


def _replace(tx: Transaction, actor: Actor, new: DeliverySettings) -> DeliverySettings:
    current = tx.exec(
        select(DeliverySettings).where(
            DeliverySettings.client_id == new.client_id,
            DeliverySettings.company_id == new.company_id,
            DeliverySettings.contract_id == new.contract_id,
            col(DeliverySettings.valid_to).is_(None),
        )
    ).first()
    chosen = {"email_enabled", "mailbox_ids", "folder_enabled", "other_kinds_in_folder"}
    if current is not None:
        if current.model_dump(include=chosen) == new.model_dump(include=chosen):
            return current
        # Clocks of several gateways differ: a change never begins before the one that it replaces.
        new.valid_from = max(new.valid_from, current.valid_from)
        current.valid_to = new.valid_from
        tx.add(current)
    tx.add(new)
    tx.flush()
    facts = new.model_dump(include=chosen | {"client_id", "company_id", "contract_id", "valid_from"})
    replaces = current.id if current else None
    evidence.record(tx, "settings.changed", new.id, actor=actor.id, replaces=replaces, **facts)
    return new


def confirm_mailbox(tx: Transaction, actor: Actor, mailbox_id: str, *, at: dt.datetime) -> Mailbox:
    """Confirm an address for its client, by an operator; again, it changes nothing. NotFound, Denied."""
    box = tx.get(Mailbox, mailbox_id)
    if box is None or not actor.sees(box.client_id):
        raise NotFound("no such mailbox", code="unknown_mailbox")
    client_for(tx, actor, Permission.SETTINGS_MANAGE, box.client_id, hold=True)
    if actor.kind != "operator":
        raise Denied("a client's address is confirmed by its reader or by an operator")
    _confirm(tx, actor, box, at)
    return box


def list_mailboxes(tx: Transaction, actor: Actor, client_id: str) -> list[Mailbox]:
    """A client's addresses, in the order of their making."""
    client_for(tx, actor, Permission.PARTIES_READ, client_id)
    return list(tx.exec(select(Mailbox).where(Mailbox.client_id == client_id).order_by(col(Mailbox.id))))


def history(tx: Transaction, actor: Actor, client_id: str) -> list[DeliverySettings]:
    """Every settings row of a client, newest first; `valid_to` is None in those that hold now."""
    client_for(tx, actor, Permission.PARTIES_READ, client_id)
    newest_first = (col(DeliverySettings.valid_from).desc(), col(DeliverySettings.id).desc())
    rows = select(DeliverySettings).where(DeliverySettings.client_id == client_id).order_by(*newest_first)
    return list(tx.exec(rows))


def in_force(
    tx: Transaction, client_id: str, company_id: str | None, contract_id: str | None, at: dt.datetime
) -> DeliverySettings | None:
    """The settings of a contract at an instant: its own, else its company's, else its client's; None without any."""
    subjects: list[tuple[str | None, str | None]] = [(None, contract_id)] if contract_id else []
    subjects += [(company_id, None)] if company_id else []
    subjects += [(None, None)]
    company, contract = col(DeliverySettings.company_id), col(DeliverySettings.contract_id)
    rows = select(DeliverySettings).where(
        DeliverySettings.client_id == client_id,
        or_(company.is_(None), company == company_id),
        or_(contract.is_(None), contract == contract_id),
        col(DeliverySettings.valid_from) <= at,
        or_(col(DeliverySettings.valid_to).is_(None), col(DeliverySettings.valid_to) > at),
    )
    found = {(row.company_id, row.contract_id): row for row in tx.exec(rows)}
    return next((found[subject] for subject in subjects if subject in found), None)


def mailboxes_serving(tx: Transaction, settings: DeliverySettings) -> list[Mailbox]:
    """Where mail goes under these settings, in their order.

    The addresses that are confirmed; while none is, those of the settings before them that are; without any, the
    unconfirmed ones, to which deliveries are held. A suspended address is among them: its deliveries say why.
    """
    listed = _boxes(tx, settings.mailbox_ids)
    for boxes in (listed, *(_boxes(tx, row.mailbox_ids) for row in _before(tx, settings))):
        confirmed = [box for box in boxes if box.confirmed_at is not None]
        if confirmed:
            return confirmed
    return listed


def _before(tx: Transaction, settings: DeliverySettings) -> Iterable[DeliverySettings]:
    """The settings that these replaced, newest first, as far back as e-mail was on all the time."""
    earlier = select(DeliverySettings).where(
        DeliverySettings.client_id == settings.client_id,
        DeliverySettings.company_id == settings.company_id,
        DeliverySettings.contract_id == settings.contract_id,
        col(DeliverySettings.valid_to) <= settings.valid_from,
        col(DeliverySettings.valid_from) < col(DeliverySettings.valid_to),
    )
    for row in tx.exec(earlier.order_by(col(DeliverySettings.valid_from).desc())):
        if not row.email_enabled:
            return
        yield row


def _boxes(tx: Transaction, mailbox_ids: list[str]) -> list[Mailbox]:
    rows = {box.id: box for box in tx.exec(select(Mailbox).where(col(Mailbox.id).in_(mailbox_ids)))}
    return [rows[mailbox_id] for mailbox_id in mailbox_ids]


def folders_for(tx: Transaction, client_id: str, contract_id: str | None) -> list[Folder]:
    """The folders that a client's documents of a contract go to, the oldest first; those that are disabled are not."""
    named = select(FolderContract.folder_id).where(FolderContract.contract_id == contract_id)
    rows = select(Folder).where(
        Folder.client_id == client_id,
        col(Folder.disabled_at).is_(None),
        col(Folder.is_intake).is_(False),
        or_(col(Folder.all_contracts), col(Folder.id).in_(named)),
    )
    return list(tx.exec(rows.order_by(col(Folder.id))))
