"""Test documents in `sandbox/`: made on demand, so that a client can try its whole pull chain before its first invoice.

A test document is named by the folder's own template, with TEST in the place of ORIG or COPY and in its number, and
comes in the folder's formats; what it looks like is sealing/trial.py's. It is a file of the sandbox: it takes the
client's quota, goes when the client removes it or after some days, and is in no manifest and no sequence. That it was
read and removed is recorded as a test's (`sandbox_test`, events `test_document.…`): it is never a receipt.

Refused: over a limit. NotFound: no such test document.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlmodel import col, select

from .. import clock, invoices
from ..config import FolderSettings
from ..domain import names
from ..domain.folders import Folder, FolderContract
from ..domain.parties import Company, CompanyHolding, Contract, ContractHolding
from ..domain.sandbox import SandboxFile, SandboxTest
from ..errors import Conflict, NotFound, Refused
from ..evidence import Fact, record, record_all
from ..invoices import InvoiceFacts
from ..sealing import trial
from ..store import database
from ..store.database import Transaction
from . import paths, ranges, sandbox_rows
from .ranges import Ranges

_DAY = dt.timedelta(days=1)
_SITE, _PRM = "Site d’essai", "00000000000000"
_NOBODY = (invoices.FOUNDRY, "TEST", invoices.ContractType.CARD_S)  # for clients that have no contract yet


@dataclass(frozen=True)
class Wanted:
    """One test document that is to be made: what it says, and its file's name for each of the folder's formats."""

    facts: InvoiceFacts
    names: dict[str, str]


@dataclass(frozen=True)
class Made:
    """One file of it. The blob begins with sandbox.HEAD random bytes; `sha256` and `size` are the file's."""

    number: str
    format: str
    name: str
    blob_sha256: str
    sha256: str
    size: int


def plan(tx: Transaction, folder: Folder, count: int, settings: FolderSettings, zone: ZoneInfo) -> list[Wanted]:
    """What to make for a folder: its client's own contracts in turn, no two with the same number. Refused."""
    if folder.is_intake:
        raise Refused("this log-in hands documents in: it has no sandbox/", code="intake")
    if count > settings.test_documents:
        raise Refused(
            f"at most {settings.test_documents} test documents can be asked for at once", code="too_many",
            most=settings.test_documents,
        )  # fmt: skip
    _require_room(tx, folder, count * len(folder.formats), settings)
    now = database.now(tx).astimezone(zone)
    parties = _parties(tx, folder, now.date()) or [_NOBODY]
    return [_wanted(folder, *parties[place % len(parties)], now, place + 1) for place in range(count)]


def _require_room(tx: Transaction, folder: Folder, files: int, settings: FolderSettings) -> None:
    made = (
        sa.select(sa.func.count(sa.distinct(col(SandboxTest.number))))
        .join(Folder, col(Folder.id) == col(SandboxTest.folder_id))
        .where(col(Folder.client_id) == folder.client_id, col(SandboxTest.made_at) > database.now(tx) - _DAY)
    )
    most = settings.test_documents_a_day
    if tx.execute(made).scalar_one() + files // len(folder.formats) > most:
        raise Refused(f"at most {most} test documents are made for a client in 24 hours", code="too_many_today")
    if sandbox_rows.kept(tx, folder.client_id)[1] + files > settings.sandbox_files:
        text = f"at most {settings.sandbox_files} files can be kept in sandbox/: remove some"
        raise Refused(text, code="too_many_files")


def _wanted(
    folder: Folder, buyer: invoices.Company, contract: str, kind: invoices.ContractType, now: dt.datetime, place: int
) -> Wanted:
    end = now.date().replace(day=1) - _DAY
    number = f"TEST-{now:%Y%m%d-%H%M%S}{now.microsecond // 1000:03d}-{place:02d}"
    facts = InvoiceFacts(
        number, now.date(), end.replace(day=1), end, buyer, invoices.Contract(contract, kind, _PRM, _SITE, 100),
        kwh=1000 + place, seller=invoices.TESTER, note=trial.NOTE,
    )  # fmt: skip
    template = folder.name_template or names.TEMPLATE
    return Wanted(
        facts,
        {
            ending: names.entry_name(facts.issue_date, contract, number, trial.WORD, 1, ending, template)
            for ending in folder.formats
        },
    )


def _parties(
    tx: Transaction, folder: Folder, day: dt.date
) -> list[tuple[invoices.Company, str, invoices.ContractType]]:
    """Companies and contracts of the folder's client on a day, as an invoice names them; a hundred at most."""
    held = [
        sa.and_(col(bond.from_day) <= day, sa.or_(col(bond.to_day).is_(None), col(bond.to_day) >= day))
        for bond in (ContractHolding, CompanyHolding)
    ]
    query = (
        sa.select(col(Company.siren), col(Company.name), col(Contract.number), col(Contract.type))
        .join(ContractHolding, col(ContractHolding.contract_id) == col(Contract.id))
        .join(Company, col(Company.id) == col(ContractHolding.company_id))
        .join(CompanyHolding, col(CompanyHolding.company_id) == col(Company.id))
        .where(col(CompanyHolding.client_id) == folder.client_id, *held)
        .order_by(col(Contract.number))
        .limit(100)
    )
    if not folder.all_contracts:
        own = sa.select(col(FolderContract.contract_id)).where(col(FolderContract.folder_id) == folder.id)
        query = query.where(col(Contract.id).in_(own))
    return [(_buyer(row.siren, row.name), row.number, row.type) for row in tx.execute(query)]


def _buyer(siren: str, name: str) -> invoices.Company:
    """The client's own company, at an address that is nobody's; a foreign one has no SIREN, and is left out."""
    shown = name.encode("cp1252", "replace").decode("cp1252")[:60]  # what the pages can show
    try:
        return invoices.Company(shown, siren, "1 rue de l’Essai", "00400", "VILLE-EXEMPLE", "test@client.example")
    except Refused:
        return invoices.FOUNDRY


def keep(
    tx: Transaction, folder: Folder, made: Sequence[Made], settings: FolderSettings, actor: str, reason: str
) -> list[SandboxTest]:
    """Put them into the sandbox, all or none; their bytes are in the store. Refused, Conflict: as of a write."""
    sandbox_rows.hold(tx, sandbox_rows.FOLDER.c.client_id == folder.client_id)
    _require_room(tx, folder, len(made), settings)
    now = database.now(tx)
    limit = int(settings.sandbox_megabytes * 1_000_000)
    rows = [_row(folder.id, one, actor, now) for one in made]
    for one, row in zip(made, rows, strict=True):
        path = f"{paths.SANDBOX}/{one.name}"
        if sandbox_rows.require_place(tx, folder.id, path) is not None:
            raise Conflict("another request had the same number a moment ago: ask again", code="exists")
        file = {
            "id": row.id, "folder_id": folder.id, "path": path, "path_folded": names.fold(path),
            "blob_sha256": one.blob_sha256, "sha256": one.sha256, "size": one.size, "mtime": int(now.timestamp()),
            "is_made": True,
        }  # fmt: skip
        sandbox_rows.keep(tx, folder.client_id, file, limit)
        tx.add(row)
    tx.flush()
    said = {"actor": actor, "reason": reason, "folder_id": folder.id}
    facts = [{"name": row.name, "size": row.size, "sha256": row.sha256, **said} for row in rows]
    record_all(tx, [Fact("test_document.made", row.id, None, of) for row, of in zip(rows, facts, strict=True)])
    return rows


def _row(folder_id: str, made: Made, actor: str, now: dt.datetime) -> SandboxTest:
    return SandboxTest(
        id=clock.new_id("sbx"), folder_id=folder_id, name=made.name, number=made.number, format=made.format,
        sha256=made.sha256, size=made.size, made_at=now, made_by=actor,
    )  # fmt: skip


def listed(tx: Transaction, folder_id: str, limit: int) -> list[tuple[SandboxTest, bool]]:
    """The folder's newest test documents, and whether each is still there."""
    query = (
        select(SandboxTest, SandboxFile.id)
        .outerjoin(SandboxFile, col(SandboxFile.id) == col(SandboxTest.id))
        .where(SandboxTest.folder_id == folder_id)
        .order_by(col(SandboxTest.made_at).desc(), col(SandboxTest.id).desc())
        .limit(limit)
    )
    return [(row, file is not None) for row, file in tx.exec(query)]


def read(tx: Transaction, test_id: str, who: Mapping[str, Any], given: Ranges) -> None:
    """A client closed a test document of which it had been given these ranges."""
    row = tx.get(SandboxTest, test_id, with_for_update=True)
    if row is None:  # it was made too long ago
        return
    row.read_ranges = ranges.union(row.read_ranges, given)
    if row.fully_read_at is None and ranges.covers(row.read_ranges, row.size):
        row.fully_read_at = database.now(tx)
    facts: dict[str, Any] = {"name": row.name, "size": row.size, "bytes": ranges.total(given)}
    record(
        tx, "test_document.read", test_id, folder_id=row.folder_id, fully_read=row.fully_read_at is not None,
        **who, **facts,
    )  # fmt: skip


def removed(tx: Transaction, test_id: str, who: Mapping[str, Any]) -> None:
    """Its file is gone; `who` removed it: a session's facts, or an actor."""
    row = tx.get(SandboxTest, test_id, with_for_update=True)
    if row is not None:
        row.removed_at = database.now(tx)
        facts: dict[str, Any] = {"name": row.name, "fully_read": row.fully_read_at is not None}
        record(tx, "test_document.removed", test_id, folder_id=row.folder_id, **who, **facts)


def remove(tx: Transaction, folder_id: str, test_id: str, actor: str) -> None:
    """Take a test document out of its sandbox, by API; the store forgets its bytes in a later sweep. NotFound."""
    made = (col(SandboxFile.folder_id) == folder_id, col(SandboxFile.id) == test_id, col(SandboxFile.is_made))
    if not sandbox_rows.remove(tx, *made):
        raise NotFound("no such test document", code="unknown_test_document")
    removed(tx, test_id, {"actor": actor})


def forget(tx: Transaction, before: dt.datetime) -> None:
    """Rows of test documents that were made too long ago go; the ledger keeps what happened."""
    tx.execute(sa.delete(SandboxTest).where(col(SandboxTest.made_at) < before))
