"""Clients that move in from another SFTP server: each line of their list makes what is not there yet.

A line names a client and its log-in, and what else is known: a company, contracts, settings, the account's
authorized_keys. Further lines of the same client add companies. Each line is one transaction; a line that is there
already, the same, changes nothing, so a list can be imported again. What is there is never changed: a difference is
said, and a person decides.

`rehearse` runs the very same steps and takes all of them back: what it reports is what the import will report. Lines
that name something in common are rehearsed together, in their order, the others each for itself: a line takes some 5 ms
of the one writer, and others write between them.
"""

import contextlib
import dataclasses
import datetime as dt
import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlmodel import col, select

from ..access import Actor
from ..domain import identifiers
from ..domain.folders import Folder, SshKey
from ..domain.parties import Client, Company, Contract, DeliverySettings, Mailbox, search_key
from ..errors import Conflict, GatewayError, NotFound, Refused
from ..store import database
from ..store.database import Database, Transaction
from . import authorized_keys, folders, registry, settings, sshkeys, subscriptions
from .authorized_keys import KeyLine, Network

_BETWEEN = re.compile(r"[\s,;|]+")


@dataclass(frozen=True)
class Line:
    """One line of the list, its cells as text. An empty cell says nothing."""

    client: str
    user_name: str
    language: str = ""
    siren: str = ""
    company: str = ""
    contracts: str = ""
    formats: str = ""
    receipt: str = ""
    networks: str = ""
    email: str = ""
    subscribe_from: str = ""
    reason: str = ""
    authorized_keys: str = ""


COLUMNS = tuple(one.name for one in dataclasses.fields(Line) if one.name != "authorized_keys")
REQUIRED = ("client", "user_name")


@dataclass(frozen=True)
class KeyReport:
    """What came of one key: added, same, refused. `line` is of the account's authorized_keys."""

    line: int
    fingerprint: str
    label: str
    outcome: str
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """What came of a line: created, same, differs, refused. The last two made nothing, for `reason`, in `column`."""

    outcome: str
    made: list[str] = field(default_factory=list)
    column: str = ""
    reason: str = ""
    keys: list[KeyReport] = field(default_factory=list)


@dataclass(frozen=True)
class Issuer:
    """What of the issuer a line depends on."""

    today: dt.date
    zone: ZoneInfo
    terms_version: str


class _TakenBack(Exception):
    pass


def take(db: Database, actor: Actor, lines: Iterable[Line], issuer: Issuer) -> list[Report]:
    """Import lines, each in a transaction of its own; what came of each."""
    reports: list[Report] = []
    for line in lines:
        with _reported(reports):
            reports.append(db.write(lambda tx, line=line: _take(tx, actor, line, issuer)))  # type: ignore[misc]
    return reports


def rehearse(db: Database, actor: Actor, lines: Sequence[Line], issuer: Issuer) -> list[Report]:
    """What `take` would report of these lines; nothing is kept."""
    found: dict[int, Report] = {}
    for numbers in _apart(lines):
        together = _rehearse(db, actor, [lines[number] for number in numbers], issuer)
        found |= zip(numbers, together, strict=True)
    return [found[number] for number in range(len(lines))]


def _rehearse(db: Database, actor: Actor, lines: Sequence[Line], issuer: Issuer) -> list[Report]:
    reports: list[Report] = []

    def step(tx: Transaction) -> None:
        reports.clear()  # the store runs a step again where another was in its way
        for line in lines:
            with _reported(reports), tx.begin_nested():
                reports.append(_take(tx, actor, line, issuer))
                tx.flush()
        raise _TakenBack

    with contextlib.suppress(_TakenBack):
        db.write(step)
    return reports


def _apart(lines: Sequence[Line]) -> Iterable[list[int]]:
    """The numbers of the lines, those together that a client, a log-in, a company or a contract connects."""
    before = list(range(len(lines)))  # a line that each is connected with, itself for the first of its group
    first: dict[tuple[str, str], int] = {}

    def group(number: int) -> int:
        while before[number] != number:
            before[number] = number = before[before[number]]
        return number

    for number, line in enumerate(lines):
        for name in _named(line):
            before[group(number)] = group(first.setdefault(name, number))
    groups: dict[int, list[int]] = {}
    for number in range(len(lines)):
        groups.setdefault(group(number), []).append(number)
    return groups.values()


def _named(line: Line) -> Iterator[tuple[str, str]]:
    """What a line names that another one could name too, as the database compares it."""
    yield "client", search_key(line.client)
    yield "log-in", line.user_name.lower()
    with contextlib.suppress(Refused):  # what is none connects nothing
        yield "company", identifiers.party(line.siren)
    for word in _words(line.contracts):
        yield "contract", word.partition(":")[0]


@contextlib.contextmanager
def _reported(reports: list[Report]) -> Iterator[None]:
    """A line's error as its report: something else is there (Conflict), or it can never be."""
    try:
        yield
    except (Conflict, Refused, NotFound) as error:
        outcome = "differs" if isinstance(error, Conflict) else "refused"
        reports.append(Report(outcome, [], str(error.facts.get("column", "")), error.message))


@contextlib.contextmanager
def _cell(column: str) -> Iterator[None]:
    """The column that is at fault when something is."""
    try:
        yield
    except GatewayError as error:
        error.facts.setdefault("column", column)
        raise


def _take(tx: Transaction, actor: Actor, line: Line, issuer: Issuer) -> Report:
    desk = _Desk(tx, actor, line, issuer)
    client, folder, is_new = desk.client()
    desk.company(client)
    numbers = desk.contracts(client)
    desk.settings(client, folder, is_new)
    keys = authorized_keys.read(line.authorized_keys, issuer.zone)
    desk.networks(folder, keys, is_new)
    reports = [desk.key(folder, key) for key in keys]
    desk.subscriptions(client, numbers)
    return Report("created" if desk.made else "same", desk.made, keys=reports)


class _Desk:
    """One line under way; `made` names what was not there before."""

    def __init__(self, tx: Transaction, actor: Actor, line: Line, issuer: Issuer) -> None:
        self.made: list[str] = []
        self._tx, self._actor, self._line, self._issuer = tx, actor, line, issuer

    def client(self) -> tuple[Client, Folder, bool]:
        """The client, its folder of that log-in, and whether they were made just now."""
        tx, line = self._tx, self._line
        with _cell("user_name"):
            user_name = identifiers.user_name(line.user_name)
            taken = tx.exec(select(Folder).where(sa.func.lower(Folder.user_name) == user_name.lower())).first()
        known = tx.exec(select(Client).where(Client.name_key == search_key(line.client))).first()
        if known is None and taken is None:
            with _cell("language" if line.language not in ("", "fr", "en") else "client"):
                made = registry.create_client(tx, self._actor, line.client, line.language or "fr", user_name)
            self.made += [f"client {made.name}", f"folder {user_name}"]
            return made, folders.list_folders(tx, self._actor, made.id)[0], True
        if known is None or (taken is not None and taken.client_id != known.id):
            raise Refused(f"the log-in name {user_name} is another client's", column="user_name")
        if taken is None or taken.user_name != user_name:
            there = sshkeys.folder_of(tx, known.id, None).user_name
            raise Conflict(f"the client is there with the log-in name {there}", column="user_name")
        _same("language", line.language, known.language)
        return known, taken, False

    def company(self, client: Client) -> None:
        """The company, of this client."""
        line = self._line
        if not line.siren:
            if line.company:
                raise Refused("a company needs its SIREN", column="siren")
            return
        with _cell("siren"):
            siren = identifiers.party(line.siren)
            held = self._tx.exec(select(Company).where(Company.siren == siren)).first()
            name = line.company or (held.name if held else line.client)
            company = registry.create_company(self._tx, self._actor, siren, name, client.id)
            self._tx.flush()
        self._note(held is None, f"company {company.siren}")

    def contracts(self, client: Client) -> list[str]:
        """The contracts of the line's company; their numbers."""
        numbers = []
        for word in _words(self._line.contracts):
            number, _, kind = word.partition(":")
            with _cell("contracts"):
                if not self._line.siren:
                    raise Refused("contracts need the SIREN of the company that holds them", column="siren")
                held = self._tx.exec(select(Contract).where(Contract.number == number)).first()
                wanted = kind or (held.type_name or held.type.value if held else "CARD_S")
                registry.create_contract(
                    self._tx, self._actor, number, wanted, self._line.siren, today=self._issuer.today
                )
                self._tx.flush()
            self._note(held is None, f"contract {number}")
            numbers.append(number)
        return numbers

    def settings(self, client: Client, folder: Folder, is_new: bool) -> None:
        """How its documents reach the client: by its folder, and by e-mail where the line has addresses."""
        tx, line = self._tx, self._line
        with _cell("formats"):
            formats = folders.formats_of(_words(line.formats)) if line.formats else None
        with _cell("receipt"):
            receipt = folders.receipt_mode_of(line.receipt) if line.receipt else None
        with _cell("email"):
            addresses = [identifiers.mail_address(word) for word in _words(line.email)]
        if not is_new:
            _same("formats", formats, folder.formats)
            _same("receipt", receipt, folder.receipt_mode)
            if (held := _open_settings(tx, client.id)) is not None:
                _same("email", sorted(addresses), sorted(_addresses(tx, held)))
                return
        with _cell("email"):
            by_email = settings.ByEmail(bool(addresses), tuple(addresses))
            by_folder = settings.ByFolder(True, tuple(formats) if formats else None, receipt)
            at = database.now(tx)
            settings.set_delivery_settings(tx, self._actor, client.id, by_email, by_folder, at=at)
        self.made.append("settings")

    def networks(self, folder: Folder, keys: Sequence[KeyLine], is_new: bool) -> None:
        """Where the folder's client may come from: as the line says, else as all of the keys say alike."""
        wanted = _words(self._line.networks)
        if not wanted and is_new:
            said = {key.networks for key in keys if not key.refused}
            wanted = [str(network) for network in (said.pop() if len(said) == 1 else None) or ()]
        if not wanted:
            return
        if is_new:
            with _cell("networks"):
                folders.set_networks(self._tx, self._actor, folder.client_id, folder.id, wanted)
            self.made.append("networks")
        else:
            with _cell("networks"):
                _same("networks", sorted({folders.network(one) for one in wanted}), folder.networks)

    def key(self, folder: Folder, key: KeyLine) -> KeyReport:
        """One key of the account; a refused one keeps none of the others away."""
        try:
            if key.refused:
                raise Refused(key.refused)
            _require_within(folder.networks, key.networks)
            there = select(SshKey.id).where(SshKey.folder_id == folder.id, SshKey.fingerprint == key.fingerprint)
            is_there = self._tx.exec(there).first() is not None
            sshkeys.add_key(
                self._tx, self._actor, folder.client_id, key.public_key, key.label, folder.id, key.expires_at
            )
        except (Refused, Conflict) as error:
            return KeyReport(key.number, key.fingerprint, key.label, "refused", error.message)
        self._note(not is_there, f"key {key.fingerprint}")
        return KeyReport(key.number, key.fingerprint, key.label, "same" if is_there else "added")

    def subscriptions(self, client: Client, numbers: list[str]) -> None:
        """The electronic invoice for the line's contracts, from its day on."""
        line = self._line
        if not line.subscribe_from:
            return
        with _cell("subscribe_from"):
            items = subscriptions.subscribe(
                self._tx,
                self._actor,
                client.id,
                numbers,
                _day(line.subscribe_from),
                terms_version=self._issuer.terms_version,
                today=self._issuer.today,
                reason=line.reason,
            )
            for item in items:
                if item.outcome == "refused":
                    raise Refused(f"{item.contract}: {item.reason}")
                self._note(item.outcome == "subscribed", f"subscription {item.contract}")

    def _note(self, is_new: bool, what: str) -> None:
        if is_new:
            self.made.append(what)


def _same(column: str, wanted: Any, there: Any) -> None:
    """Conflict where the line says something, and something else is there."""
    if wanted and wanted != there:
        shown = " ".join(there) if isinstance(there, list) else there
        raise Conflict(f"it is there with {shown or 'none'}: nothing was changed", column=column)


def _words(cell: str) -> list[str]:
    return [word for word in _BETWEEN.split(cell.strip()) if word]


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise Refused(f"a day is YYYY-MM-DD, this one reads {text[:20]!r}") from None


def _open_settings(tx: Transaction, client_id: str) -> DeliverySettings | None:
    rows = select(DeliverySettings).where(
        DeliverySettings.client_id == client_id,
        col(DeliverySettings.company_id).is_(None),
        col(DeliverySettings.contract_id).is_(None),
        col(DeliverySettings.valid_to).is_(None),
    )
    return tx.exec(rows).first()


def _addresses(tx: Transaction, held: DeliverySettings) -> list[str]:
    addresses = tx.exec(select(Mailbox.address).where(col(Mailbox.id).in_(held.mailbox_ids))).all()
    return [address for address in addresses if address is not None]


def _require_within(folder: Sequence[str] | None, key: tuple[Network, ...] | None) -> None:
    """Refused when a key would open the folder from where it could not come to the server before."""
    if key is None:
        return
    allowed = [ipaddress.ip_network(one) for one in folder or ()]
    if not allowed or not all(any(_holds(mine, one) for mine in key) for one in allowed):
        raise Refused(
            f"it may come from {', '.join(map(str, key))} only, and networks are the folder's here, for all its keys: "
            "say in the column networks which they are"
        )


def _holds(wider: Network, narrower: Network) -> bool:
    return wider.version == narrower.version and narrower.subnet_of(wider)  # type: ignore[arg-type]
