"""Clients, companies, contracts and the dated bonds between them: made, renamed, moved. By operators only.

Making a thing again with the same facts answers the same row; with other facts Conflict says what there is. Names
change under an optimistic version (Conflict `stale`). A move closes the bond in force the day before and opens the
next (bonds.follow); documents accepted before keep their holder, subscriptions end with their client's days.

NotFound for what does not exist; Refused for a SIREN, contract number, type or name that cannot be.
"""

import datetime as dt
import unicodedata
from collections.abc import Iterable

from sqlmodel import select

from .. import evidence
from ..access import Actor, Permission, client_for
from ..domain import identifiers
from ..domain.folders import Folder
from ..domain.parties import (
    NAME_LENGTH,
    Client,
    Company,
    CompanyHolding,
    Contract,
    ContractHolding,
    ContractType,
    Language,
    OriginalChannel,
    search_key,
)
from ..errors import Conflict, NotFound, Refused
from ..evidence import Fact
from ..store import database
from ..store.database import Transaction
from .bonds import follow
from .coverage import change_hands
from .folders import create_folder
from .holders import tenures
from .subscriptions import set_original_channel

FIRST_DAY = dt.date(1900, 1, 1)  # of a bond whose beginning nobody said: it holds for every document


def create_client(
    tx: Transaction, actor: Actor, name: str, language: str = "fr", user_name: str = "", *, is_intake: bool = False
) -> Client:
    """A client with its first drop folder, which takes PDFs and is received by delete.

    `user_name`: the folder's log-in; made from the name when empty. `is_intake`: a system of the issuer's own instead,
    whose log-in hands documents in.
    """
    actor.require(Permission.PARTIES_MANAGE)
    name, spoken = _name(name), _language(language)
    known = tx.exec(select(Client).where(Client.name_key == search_key(name))).first()
    if known is not None:
        if (known.name, known.language) == (name, spoken) and _has_folder(tx, known, user_name, is_intake):
            return known
        raise Conflict(f"there is a client {known.name} ({known.id}, language {known.language})", code="client_exists")
    client = Client(name=name, name_key=search_key(name), language=spoken, created_at=database.now(tx))
    tx.add(client)
    tx.flush()
    who = evidence.personal(tx, "name", name)
    evidence.record(tx, "client.created", client.id, actor=actor.id, name=who, language=spoken)
    create_folder(tx, actor, client.id, user_name, is_intake=is_intake)
    return client


def _has_folder(tx: Transaction, client: Client, user_name: str, is_intake: bool) -> bool:
    names = tx.exec(select(Folder.user_name).where(Folder.client_id == client.id, Folder.is_intake == is_intake)).all()
    if not names:
        return False
    return not user_name or user_name in names


def create_company(
    tx: Transaction, actor: Actor, siren: str, name: str, client_id: str, from_day: dt.date = FIRST_DAY
) -> Company:
    """A company of a client from a day on. `siren`: SIREN, SIRET, or VAT number (of a foreign one)."""
    client_for(tx, actor, Permission.PARTIES_MANAGE, client_id)
    siren, name = identifiers.party(siren), _name(name)
    known = tx.exec(select(Company).where(Company.siren == siren)).first()
    if known is not None:
        bonds = tx.exec(select(CompanyHolding).where(CompanyHolding.company_id == known.id)).all()
        if known.name == name and (client_id, from_day) in [(bond.client_id, bond.from_day) for bond in bonds]:
            return known
        last = max(bonds, key=lambda bond: bond.from_day)
        raise Conflict(
            f"there is a company {siren} ({known.name}), of client {last.client_id} since {last.from_day}",
            code="company_exists",
        )
    company = Company(siren=siren, name=name, name_key=search_key(name), created_at=database.now(tx))
    tx.add(company)
    tx.flush()
    tx.add(CompanyHolding(company_id=company.id, client_id=client_id, from_day=from_day))
    facts = {"siren": siren, "name": evidence.personal(tx, "name", name), "client_id": client_id, "from_day": from_day}
    evidence.record_all(tx, [Fact("company.created", company.id, None, {"actor": actor.id} | facts)])
    return company


def create_contract(
    tx: Transaction,
    actor: Actor,
    number: str,
    type_: str,
    siren: str,
    from_day: dt.date = FIRST_DAY,
    *,
    today: dt.date,
    original_channel: str | None = None,
) -> Contract:
    """A contract of a company from a day on; subscribed at once if its client wanted later contracts included.

    `type_`: CARD_S, CARD_I (CARD-S, CARD-I), or any word of the issuer. `original_channel`: from `from_day` on.
    """
    actor.require(Permission.PARTIES_MANAGE)
    number, (kind, word) = identifiers.contract_number(number), contract_type(type_)
    company = tx.exec(
        select(Company).where(Company.siren == identifiers.party(siren)).with_for_update(key_share=True)
    ).first()
    if company is None:
        raise Refused(f"no company {siren[:20]} is known: enter it first", code="unknown_company")
    known = tx.exec(select(Contract).where(Contract.number == number)).first()
    if known is not None:
        return _same_contract(tx, known, (kind, word, company.id, from_day), original_channel)
    contract = Contract(number=number, type=kind, type_name=word, created_at=database.now(tx))
    tx.add(contract)
    tx.flush()
    tx.add(ContractHolding(contract_id=contract.id, company_id=company.id, from_day=from_day))
    facts = {"number": number, "type": kind, "type_name": word, "company_id": company.id, "from_day": from_day}
    evidence.record_all(tx, [Fact("contract.created", contract.id, None, {"actor": actor.id} | facts)])
    if original_channel is not None:
        set_original_channel(tx, actor, contract.id, original_channel, from_day)
    _hold(tx, actor, _clients_of(tx, company.id))
    change_hands(tx, actor.id, [contract.id], from_day, today)
    return contract


def _same_contract(
    tx: Transaction, known: Contract, wanted: tuple[ContractType, str, str, dt.date], original_channel: str | None
) -> Contract:
    bonds = tx.exec(select(ContractHolding).where(ContractHolding.contract_id == known.id)).all()
    channels = tx.exec(select(OriginalChannel).where(OriginalChannel.contract_id == known.id)).all()
    there = {(known.type, known.type_name, bond.company_id, bond.from_day) for bond in bonds}
    entered = {(row.channel, row.from_day) for row in channels}
    if wanted in there and (original_channel is None or (original_channel, wanted[3]) in entered):
        return known
    last = max(bonds, key=lambda bond: bond.from_day)
    company = tx.get(Company, last.company_id)
    assert company is not None
    kind = known.type_name or known.type
    raise Conflict(
        f"there is a contract {known.number} of type {kind}, of company {company.siren} since {last.from_day}",
        code="contract_exists",
        contract=known.number,
    )


def contract_type(word: str) -> tuple[ContractType, str]:
    """A type by the issuer's word, and that word where it is none of ours: `CARD-S` is CARD_S, `TURPE` is OTHER."""
    word = " ".join(word.split())
    if not 0 < len(word) <= 40 or not word.isprintable():
        raise Refused("a contract's type is a word of 1 to 40 characters", code="contract_type")
    known = word.upper().replace("-", "_")
    if known in (ContractType.CARD_S, ContractType.CARD_I):
        return ContractType(known), ""
    return ContractType.OTHER, word


def move_company(
    tx: Transaction,
    actor: Actor,
    company_id: str,
    client_id: str,
    from_day: dt.date,
    *,
    today: dt.date,
    drop_later: bool = False,
) -> None:
    """Give a company, with its contracts, to another client from a day on. `drop_later`: see bonds.follow."""
    client_for(tx, actor, Permission.PARTIES_MANAGE, client_id)
    company = tx.get(Company, company_id, with_for_update={"key_share": True})
    if company is None:
        raise NotFound("no such company", code="unknown_company")
    _hold(tx, actor, {client_id, *_clients_of(tx, company.id)})
    bonds = tx.exec(select(CompanyHolding).where(CompanyHolding.company_id == company.id)).all()
    if any(bond.client_id == client_id and bond.from_day <= from_day and bond.to_day is None for bond in bonds):
        return
    new = CompanyHolding(company_id=company.id, client_id=client_id, from_day=from_day)
    replaced = follow(tx, bonds, new, drop_later=drop_later)
    evidence.record(
        tx, "company.moved", company.id, actor=actor.id, client_id=client_id, from_day=from_day, replaced=replaced
    )
    contracts = select(ContractHolding.contract_id).where(ContractHolding.company_id == company.id).distinct()
    change_hands(tx, actor.id, tx.exec(contracts).all(), from_day, today)


def move_contract(
    tx: Transaction,
    actor: Actor,
    contract_id: str,
    company_id: str,
    from_day: dt.date,
    *,
    today: dt.date,
    drop_later: bool = False,
) -> None:
    """Give a contract to another company from a day on. `drop_later`: see bonds.follow."""
    actor.require(Permission.PARTIES_MANAGE)
    contract = tx.get(Contract, contract_id, with_for_update={"key_share": True})
    company = tx.get(Company, company_id, with_for_update={"key_share": True})
    if contract is None or company is None:
        raise NotFound(f"no such {'company' if contract else 'contract'}", code="unknown_contract_or_company")
    before = {tenure.client_id for tenure in tenures(tx, [contract.id]).get(contract.id, [])}
    _hold(tx, actor, before | _clients_of(tx, company.id))
    bonds = tx.exec(select(ContractHolding).where(ContractHolding.contract_id == contract.id)).all()
    if any(bond.company_id == company_id and bond.from_day <= from_day and bond.to_day is None for bond in bonds):
        return
    new = ContractHolding(contract_id=contract.id, company_id=company_id, from_day=from_day)
    replaced = follow(tx, bonds, new, drop_later=drop_later)
    evidence.record(
        tx, "contract.moved", contract.id, actor=actor.id, company_id=company_id, from_day=from_day, replaced=replaced
    )
    change_hands(tx, actor.id, [contract.id], from_day, today)


def _clients_of(tx: Transaction, company_id: str) -> set[str]:
    return set(tx.exec(select(CompanyHolding.client_id).where(CompanyHolding.company_id == company_id)))


def _hold(tx: Transaction, actor: Actor, client_ids: Iterable[str]) -> None:
    for client_id in sorted(client_ids):  # one order for all, or two moves would wait for each other
        client_for(tx, actor, Permission.PARTIES_MANAGE, client_id, hold=True)


def update_client(
    tx: Transaction, actor: Actor, client_id: str, version: int, *, name: str | None = None, language: str | None = None
) -> Client:
    """Another name or language. Conflict: `stale` unless `version` is the newest, `client_exists` for a name's twin."""
    client = client_for(tx, actor, Permission.PARTIES_MANAGE, client_id, hold=True)
    _require_version(client, version)
    wanted = _name(name) if name is not None else client.name
    spoken = _language(language) if language is not None else client.language
    twin = tx.exec(select(Client).where(Client.name_key == search_key(wanted), Client.id != client.id)).first()
    if twin is not None:
        raise Conflict(f"there is a client {twin.name} ({twin.id})", code="client_exists")
    if (wanted, spoken) != (client.name, client.language):
        client.name, client.name_key, client.language = wanted, search_key(wanted), spoken
        client.version += 1
        tx.add(client)
        who = evidence.personal(tx, "name", wanted)
        evidence.record(tx, "client.changed", client.id, actor=actor.id, name=who, language=spoken)
    return client


def rename_company(tx: Transaction, actor: Actor, company_id: str, version: int, name: str) -> Company:
    """Another name; `version` is the one that was read (Conflict `stale`)."""
    actor.require(Permission.PARTIES_MANAGE)
    company = tx.get(Company, company_id, with_for_update={"key_share": True})
    if company is None:
        raise NotFound("no such company", code="unknown_company")
    _require_version(company, version)
    name = _name(name)
    if name != company.name:
        company.name, company.name_key = name, search_key(name)
        company.version += 1
        tx.add(company)
        evidence.record(tx, "company.renamed", company.id, actor=actor.id, name=evidence.personal(tx, "name", name))
    return company


def _require_version(row: Client | Company, version: int) -> None:
    if row.version != version:
        raise Conflict("it was changed since it was read: read it again", code="stale", version=row.version)


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not 0 < len(name) <= NAME_LENGTH or any(unicodedata.category(letter).startswith("C") for letter in name):
        raise Refused(f"a name has 1 to {NAME_LENGTH} characters, none of them a control character", code="name_format")
    return name


def _language(word: str) -> Language:
    try:
        return Language(word)
    except ValueError:
        raise Refused(f"the language is one of {', '.join(Language)}", code="language") from None
