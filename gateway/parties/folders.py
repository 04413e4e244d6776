"""A client's drop folders: their log-in names, what goes into them, and for which contracts.

A client has one folder from the start, which takes all its contracts; further ones take all or only named ones.
Refused: a log-in name, format, receipt mode, layout or name template that cannot be. Conflict: a log-in name that is
taken.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, TypedDict

import sqlalchemy as sa
from sqlmodel import col, select

from .. import evidence
from ..access import Actor, Permission, client_for
from ..domain import identifiers, names, path_map
from ..domain.folders import Entry, Folder, FolderContract, Layout, ReceiptMode
from ..domain.parties import Client, Contract
from ..errors import Conflict, Refused
from ..store import database
from ..store.database import Transaction
from . import layouts
from .holders import contracts_of
from .sshkeys import folder_of

FORMATS = ("pdf", "xml")
_FACTS = {"client_id", "user_name", "formats", "receipt_mode", "all_contracts", "is_intake"}


class Rules(TypedDict, total=False):
    """What a folder's owner may choose; what is missing stays as it is."""

    formats: Sequence[str]  # of FORMATS
    receipt: str  # a ReceiptMode
    layout: str  # a Layout
    name_template: str | None  # see domain/names.py; None: the usual names
    inbox_days: int | None  # None: as the gateway's settings say
    linger_minutes: int | None  # the same


def create_folder(
    tx: Transaction,
    actor: Actor,
    client_id: str,
    user_name: str = "",
    *,
    formats: Sequence[str] = ("pdf",),
    receipt: str = ReceiptMode.DELETE,
    contract_ids: Sequence[str] | None = None,
    is_intake: bool = False,
) -> Folder:
    """A further folder of a client, by an operator; the same again answers the same row, with other facts Conflict.

    `user_name`: the log-in; made from the client's name when empty. `contract_ids`: None takes all contracts.
    """
    client = client_for(tx, actor, Permission.PARTIES_MANAGE, client_id, hold=True)
    wanted = Folder(
        client_id=client_id,
        user_name=identifiers.user_name(user_name) if user_name else _free_user_name(tx, client),
        formats=formats_of(formats),
        receipt_mode=receipt_mode_of(receipt),
        all_contracts=contract_ids is None,
        is_intake=is_intake,
        created_at=database.now(tx),
    )
    contracts = sorted(set(contract_ids or ()))
    own = set(tx.execute(contracts_of(client_id)).scalars())
    if not own.issuperset(contracts):
        raise Refused("the client holds no such contract", code="unknown_contract")
    taken = tx.exec(select(Folder).where(sa.func.lower(Folder.user_name) == wanted.user_name.lower())).first()
    if taken is not None:
        return _same(tx, taken, wanted, contracts)
    tx.add(wanted)
    tx.flush()
    tx.add_all(FolderContract(folder_id=wanted.id, contract_id=contract_id) for contract_id in contracts)
    facts = wanted.model_dump(
        include={"client_id", "user_name", "formats", "receipt_mode", "all_contracts", "is_intake"}
    )
    evidence.record(tx, "folder.created", wanted.id, actor=actor.id, contract_ids=contracts, **facts)
    return wanted


def _same(tx: Transaction, taken: Folder, wanted: Folder, contracts: list[str]) -> Folder:
    rule = tx.exec(select(FolderContract.contract_id).where(FolderContract.folder_id == taken.id)).all()
    if taken.model_dump(include=_FACTS) == wanted.model_dump(include=_FACTS) and sorted(rule) == contracts:
        return taken
    raise Conflict(f"the log-in name {taken.user_name} is taken", code="user_name_taken", user_name=taken.user_name)


def _free_user_name(tx: Transaction, client: Client) -> str:
    ascii_name = unicodedata.normalize("NFKD", client.name).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "-", ascii_name)[:40].strip("-")
    stem = stem if stem[:1].isalpha() else f"client-{stem}".rstrip("-")
    names = select(sa.func.lower(Folder.user_name)).where(col(Folder.user_name).istartswith(stem, autoescape=True))
    taken, name, count = set(tx.exec(names)), stem, 1
    while name in taken:
        count += 1
        name = f"{stem}-{count}"
    return name


def set_rules(tx: Transaction, actor: Actor, client_id: str, folder_id: str, rules: Rules) -> Folder:
    """Change rules of a client's folder; see `change_folder`."""
    client_for(tx, actor, Permission.SETTINGS_MANAGE, client_id, hold=True)
    folder = folder_of(tx, client_id, folder_id)
    change_folder(tx, actor, folder, rules)
    return folder


def change_folder(tx: Transaction, actor: Actor, folder: Folder, rules: Rules) -> None:
    """Other rules from now on. What is published keeps its name and its place; the times hold for it too."""
    wanted = _columns(rules)
    before = folder.model_dump(include=set(wanted))
    if wanted == before:
        return
    tx.execute(sa.update(Folder).where(col(Folder.id) == folder.id).values(**wanted, version=Folder.version + 1))
    tx.refresh(folder)
    if wanted.get("layout") is Layout.BY_CONTRACT:
        layouts.make_directories(tx, folder.id, _contract_numbers(tx, folder))
    evidence.record(tx, "folder.changed", folder.id, actor=actor.id, **wanted)


def _columns(rules: Rules) -> dict[str, Any]:
    """The columns of the row folder, checked."""
    columns: dict[str, Any] = {name: rules[name] for name in ("inbox_days", "linger_minutes") if name in rules}
    if "formats" in rules:
        columns["formats"] = formats_of(rules["formats"])
    if "receipt" in rules:
        columns["receipt_mode"] = receipt_mode_of(rules["receipt"])
    if "layout" in rules:
        columns["layout"] = layout_of(rules["layout"])
    if "name_template" in rules:
        template = rules["name_template"]
        if template is not None:
            names.check_template(template)
        columns["name_template"] = None if template == names.TEMPLATE else template
    return columns


def _contract_numbers(tx: Transaction, folder: Folder) -> list[str]:
    own = contracts_of(folder.client_id)
    if not folder.all_contracts:
        own = sa.select(col(FolderContract.contract_id)).where(col(FolderContract.folder_id) == folder.id)
    return list(tx.execute(sa.select(col(Contract.number)).where(col(Contract.id).in_(own))).scalars())


def set_networks(
    tx: Transaction, actor: Actor, client_id: str, folder_id: str, networks: Sequence[str] | None
) -> Folder:
    """Let the folder's client come from these networks only, or (None) from everywhere; for log-ins from now on.

    Refused (`network`) for what is none, or for an empty list: it would shut the client out without saying so.
    """
    client_for(tx, actor, Permission.KEYS_MANAGE, client_id, hold=True)
    folder = folder_of(tx, client_id, folder_id)
    if networks is not None:
        networks = sorted({network(one) for one in networks})
        if not networks:
            raise Refused("name a network, or null for everywhere", code="network")
    if folder.networks != networks:
        folder.networks = None if networks is None else list(networks)
        tx.add(folder)
        evidence.record(tx, "folder.networks_changed", folder.id, actor=actor.id, networks=folder.networks)
    return folder


def set_path_map(
    tx: Transaction, actor: Actor, client_id: str, folder_id: str, pairs: Sequence[tuple[str, str]]
) -> Folder:
    """Have the folder's client find its places under the paths of the server before, from now on; none: no longer.

    Refused (`path_map`). Conflict: something of the client's own lies under such a path, and would be out of its reach.
    """
    client_for(tx, actor, Permission.SETTINGS_MANAGE, client_id, hold=True)
    folder = folder_of(tx, client_id, folder_id)
    found = path_map.checked(pairs) or None
    for before, _ in found or ():
        _require_nothing_at(tx, folder.id, before)
    if folder.path_map != found:
        values = {"path_map": found, "version": Folder.version + 1}
        tx.execute(sa.update(Folder).where(col(Folder.id) == folder.id).values(**values))
        tx.refresh(folder)
        evidence.record(tx, "folder.path_map_changed", folder.id, actor=actor.id, paths=found)
    return folder


def _require_nothing_at(tx: Transaction, folder_id: str, path: str) -> None:
    folded = names.fold(path)
    moved = select(Entry.id).where(
        Entry.folder_id == folder_id,
        col(Entry.listed),
        sa.or_(
            col(Entry.path_folded) == folded,
            col(Entry.path_folded).startswith(folded + "/", autoescape=True),
            # a file where the way to it leads through
            col(Entry.path_folded).in_([folded[:at] for at, letter in enumerate(folded) if letter == "/" and at]),
        ),
    )
    if tx.exec(moved.limit(1)).first() is not None:
        raise Conflict(f"the client keeps files at {path}: they would be out of its reach", code="path_in_use")


def network(text: str) -> str:
    """A network as it is written: 192.0.2.0/24; Refused."""
    try:
        return str(ipaddress.ip_network(text.strip()))
    except ValueError as error:
        raise Refused(f"this is no network: {error}", code="network") from None


def list_folders(tx: Transaction, actor: Actor, client_id: str) -> list[Folder]:
    """A client's folders, the one that it had from the start first."""
    client_for(tx, actor, Permission.PARTIES_READ, client_id)
    return list(tx.exec(select(Folder).where(Folder.client_id == client_id).order_by(col(Folder.id))))


def formats_of(words: Sequence[str]) -> list[str]:
    """What a folder holds of a document: `pdf`, `xml` or both, each once, in that order; Refused."""
    if not words or not set(words) <= set(FORMATS):
        raise Refused("the formats are pdf, xml or both", code="formats")
    return [name for name in FORMATS if name in words]


def receipt_mode_of(word: str) -> ReceiptMode:
    """A receipt mode by its word; Refused."""
    try:
        return ReceiptMode(word)
    except ValueError:
        raise Refused(f"the receipt mode is one of {', '.join(ReceiptMode)}", code="receipt_mode") from None


def layout_of(word: str) -> Layout:
    """A layout by its word; Refused."""
    try:
        return Layout(word)
    except ValueError:
        raise Refused(f"the layout is one of {', '.join(Layout)}", code="layout") from None
