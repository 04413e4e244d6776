"""How documents reach a client: delivery settings, mail addresses, drop folders."""

import datetime as dt
import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import col, select

from ... import evidence
from ...access import Permission
from ...domain.folders import Folder, Layout, ReceiptMode
from ...domain.parties import Company, Contract, DeliverySettings, Mailbox
from ...errors import NotFound
from ...parties import folders, settings
from ...parties.folders import Rules
from ...parties.settings import ByEmail, ByFolder
from ...store import database
from ...store.database import Transaction
from .. import pages
from ..calls import Answer, Call
from ..login import Needs
from ..pages import Page
from . import API

routes = APIRouter(prefix=f"{API}/clients/{{client_id}}", tags=["settings"])
Reading = Annotated[Call, Depends(Needs(Permission.PARTIES_READ))]
Managing = Annotated[Call, Depends(Needs(Permission.SETTINGS_MANAGE))]
Opening = Annotated[Call, Depends(Needs(Permission.KEYS_MANAGE))]
Confirming = Annotated[Call, Depends(Needs(Permission.SETTINGS_MANAGE, operators_only=True))]
Building = Annotated[Call, Depends(Needs(Permission.PARTIES_MANAGE))]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EmailSettings(_Strict):
    """Signed e-mail to these addresses."""

    enabled: bool = False
    addresses: list[str] = []


class FolderSettings(_Strict):
    """The drop folder. Formats and receipt mode are the client's folder's; null leaves them as they are."""

    enabled: bool = False
    formats: list[str] | None = Field(None, description="pdf, xml or both")
    receipt: ReceiptMode | None = Field(None, description="Which fact makes an entry received")


class SettingsWanted(_Strict):
    """Settings of a client, or of one company or contract of it. At least one channel is on."""

    email: EmailSettings = EmailSettings()
    folder: FolderSettings = FolderSettings()
    other_kinds_in_folder: bool = Field(False, description="Kinds that are no invoices too, under documents/")
    company: str | None = Field(None, description="SIREN: settings for this company only")
    contract: str | None = Field(None, description="Number: settings for this contract only")


class SettingsShown(BaseModel):
    """Settings in force. `overrides` are those of single companies and contracts."""

    email: EmailSettings
    folder: FolderSettings
    other_kinds_in_folder: bool
    company: str | None = None
    contract: str | None = None
    valid_from: dt.datetime | None
    overrides: list["SettingsShown"] = []


class MailboxShown(BaseModel):
    """A mail address of a client. Nothing goes to it before it is confirmed, or while it is suspended."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    address: str | None
    confirmed_at: dt.datetime | None
    suspended_at: dt.datetime | None
    suspended_reason: str | None
    created_at: dt.datetime


class NewFolder(_Strict):
    """A further folder. `contracts`: numbers; null: all contracts of the client."""

    user_name: str = Field("", description="Log-in; made from the client's name when empty")
    formats: list[str] = ["pdf"]
    receipt: ReceiptMode = ReceiptMode.DELETE
    contracts: list[str] | None = None


class FolderShown(BaseModel):
    """A drop folder; `user_name` is its log-in over SFTP."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    user_name: str
    formats: list[str]
    receipt: ReceiptMode = Field(validation_alias="receipt_mode")
    all_contracts: bool
    layout: Layout
    name_template: str | None
    inbox_days: int | None = Field(description="What is not received by then leaves the inbox; null: as usual")
    linger_minutes: int | None = Field(description="A received name can still be opened as long; null: as usual")
    networks: list[str] | None = Field(description="Where its client may come from; null: from everywhere")
    path_map: list[list[str]] | None = Field(description="[from, to]: paths of the server before, and what they are")
    is_intake: bool = Field(description="The issuer's own account: its log-in sees intake/ only")
    last_sequence: int
    disabled_at: dt.datetime | None


@routes.get("/delivery-settings", response_model=SettingsShown)
async def one(call: Reading, client_id: str) -> Response:
    """The settings in force."""
    return await call.show(lambda tx: _answer(tx, call, client_id))


@routes.put("/delivery-settings", response_model=SettingsShown)
async def put(call: Managing, client_id: str, body: SettingsWanted) -> Response:
    """Replace the settings, from now on; the history is kept."""

    def step(tx: Transaction) -> Answer:
        before = _answer(tx, call, client_id)
        assert before.version is not None
        call.require_match(before.version)
        settings.set_delivery_settings(
            tx,
            call.actor,
            client_id,
            ByEmail(body.email.enabled, tuple(body.email.addresses)),
            ByFolder(
                body.folder.enabled,
                None if body.folder.formats is None else tuple(body.folder.formats),
                body.folder.receipt,
            ),
            at=database.now(tx),
            company_id=_company(tx, body.company),
            contract_id=_contract(tx, body.contract),
            other_kinds_in_folder=body.other_kinds_in_folder,
        )
        tx.flush()
        return _answer(tx, call, client_id)

    return await call.change(step)


def _company(tx: Transaction, siren: str | None) -> str | None:
    if siren is None:
        return None
    found = tx.exec(select(Company.id).where(Company.siren == "".join(siren.split()))).first()
    if found is None:
        raise NotFound("the client holds no such company", code="unknown_company")
    return found


def _contract(tx: Transaction, number: str | None) -> str | None:
    if number is None:
        return None
    found = tx.exec(select(Contract.id).where(Contract.number == number)).first()
    if found is None:
        raise NotFound("the client holds no such contract", code="unknown_contract")
    return found


def _answer(tx: Transaction, call: Call, client_id: str) -> Answer:
    open_rows = [row for row in settings.history(tx, call.actor, client_id) if row.valid_to is None]
    folder = next(iter(folders.list_folders(tx, call.actor, client_id)), None)
    addresses = {box.id: box.address for box in settings.list_mailboxes(tx, call.actor, client_id)}
    of_client = [row for row in open_rows if row.company_id is None and row.contract_id is None]
    shown = _shown(tx, of_client[0] if of_client else None, addresses, folder)
    shown.overrides = [_shown(tx, row, addresses, None) for row in open_rows if row not in of_client]
    body = shown.model_dump(mode="json")
    return Answer(body, hashlib.sha256(evidence.canonical(body).encode()).hexdigest()[:24])


def _shown(
    tx: Transaction, row: DeliverySettings | None, addresses: dict[str, str | None], folder: Folder | None
) -> SettingsShown:
    mail = [address for box in row.mailbox_ids if (address := addresses.get(box))] if row else []
    company = tx.get(Company, row.company_id) if row and row.company_id else None
    contract = tx.get(Contract, row.contract_id) if row and row.contract_id else None
    return SettingsShown(
        email=EmailSettings(enabled=row is not None and row.email_enabled, addresses=mail),
        folder=FolderSettings(
            enabled=row is not None and row.folder_enabled,
            formats=folder.formats if folder else None,
            receipt=folder.receipt_mode if folder else None,
        ),
        other_kinds_in_folder=row is not None and row.other_kinds_in_folder,
        company=company.siren if company else None,
        contract=contract.number if contract else None,
        valid_from=row.valid_from if row else None,
    )


@routes.get("/mailboxes", response_model=Page[MailboxShown])
async def mailboxes(call: Reading, client_id: str) -> Response:
    """The client's mail addresses and what is known of them; on one page."""
    return await call.answer(
        lambda tx: pages.whole([_box(box) for box in settings.list_mailboxes(tx, call.actor, client_id)])
    )


@routes.post("/mailboxes/{mailbox_id}/confirm", response_model=MailboxShown)
async def confirm(call: Confirming, client_id: str, mailbox_id: str) -> Response:
    """Confirm an address that the client entered; for operators."""

    def step(tx: Transaction) -> Answer:
        box = tx.get(Mailbox, mailbox_id)
        if box is None or box.client_id != client_id:
            raise NotFound("no such mailbox", code="unknown_mailbox")
        return Answer(_box(settings.confirm_mailbox(tx, call.actor, mailbox_id, at=database.now(tx))))

    confirmed = await call.change(step)
    call.parts.wake()
    return confirmed


def _box(box: Mailbox) -> dict[str, Any]:
    return MailboxShown.model_validate(box).model_dump(mode="json")


@routes.get("/folders", response_model=Page[FolderShown])
async def find_folders(call: Reading, client_id: str) -> Response:
    """The client's drop folders, the first one first; on one page."""
    return await call.answer(
        lambda tx: pages.whole([_folder(one) for one in folders.list_folders(tx, call.actor, client_id)])
    )


@routes.post("/folders", status_code=201, response_model=FolderShown)
async def add_folder(call: Building, client_id: str, body: NewFolder) -> Response:
    """A further folder, for all contracts or for some."""

    def step(tx: Transaction) -> Answer:
        ids = None
        if body.contracts is not None:
            ids = list(tx.exec(select(Contract.id).where(col(Contract.number).in_(body.contracts))).all())
            if len(ids) != len(set(body.contracts)):
                raise NotFound("the client holds no such contract", code="unknown_contract")
        folder = folders.create_folder(
            tx,
            call.actor,
            client_id,
            body.user_name,
            formats=body.formats,
            receipt=body.receipt,
            contract_ids=ids,
        )
        return Answer(_folder(folder), status=201)

    return await call.change(step)


class FolderRules(_Strict):
    """What of a folder is to be changed; what is not named stays. What is published keeps its name and place."""

    formats: list[str] = Field([], description="pdf, xml or both")
    receipt: ReceiptMode = Field(ReceiptMode.DELETE, description="Which fact makes an entry received")
    layout: Layout = Field(Layout.FLAT, description="by_contract: a folder for each contract inside the inbox")
    name_template: str | None = Field(
        None, max_length=100, description="Of {date} {contract} {number} {nature}, A-Z a-z 0-9 _ -; null: as usual"
    )
    inbox_days: int | None = Field(None, ge=1, le=36_500, description="null: as the gateway's settings say")
    linger_minutes: int | None = Field(None, ge=0, le=10_080, description="null: as the gateway's settings say")


@routes.patch("/folders/{folder_id}", response_model=FolderShown)
async def set_rules(call: Managing, client_id: str, folder_id: str, body: FolderRules) -> Response:
    """Change rules of a folder, from now on."""
    rules = Rules(**body.model_dump(exclude_unset=True))  # type: ignore[typeddict-item]
    return await call.change(lambda tx: Answer(_folder(folders.set_rules(tx, call.actor, client_id, folder_id, rules))))


class Networks(_Strict):
    """Networks, as 192.0.2.0/24 or 2001:db8::/32; null: everywhere."""

    networks: list[str] | None = Field(max_length=100)


@routes.put("/folders/{folder_id}/networks", response_model=FolderShown)
async def set_networks(call: Opening, client_id: str, folder_id: str, body: Networks) -> Response:
    """Let the folder's client log in from these networks only."""
    return await call.change(
        lambda tx: Answer(_folder(folders.set_networks(tx, call.actor, client_id, folder_id, body.networks)))
    )


class MappedPath(_Strict):
    """A path of the server before, and the place here that it means."""

    from_path: str = Field(alias="from", max_length=300)
    to: str = Field(max_length=300)


class PathMapWanted(_Strict):
    """All of them; none: paths are as they are."""

    paths: list[MappedPath] = Field(max_length=100)


@routes.put("/folders/{folder_id}/path-map", response_model=FolderShown)
async def set_path_map(call: Confirming, client_id: str, folder_id: str, body: PathMapWanted) -> Response:
    """Have the folder's client find its places under the paths that it had before."""
    pairs = [(one.from_path, one.to) for one in body.paths]
    return await call.change(
        lambda tx: Answer(_folder(folders.set_path_map(tx, call.actor, client_id, folder_id, pairs)))
    )


def _folder(folder: Folder) -> dict[str, Any]:
    return FolderShown.model_validate(folder).model_dump(mode="json")
