"""Clients move in line by line: what is not there is made, what is there is never changed."""

import dataclasses
import datetime as dt
import threading
from zoneinfo import ZoneInfo

import asyncssh
import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import select

from gateway.access import Actor
from gateway.domain.folders import Folder
from gateway.domain.parties import Client
from gateway.domain.tables import metadata
from gateway.parties import folders, moving_in, settings, sshkeys
from gateway.parties.moving_in import Issuer, Line, Report
from gateway.store.database import Transaction

from .conftest import OPERATOR, TODAY, Desk

ISSUER = Issuer(TODAY, ZoneInfo("Europe/Paris"), "1")


def _key(comment: str = "erp") -> str:
    return asyncssh.generate_private_key("ssh-ed25519", comment=comment).export_public_key().decode()


def _take(desk: Desk, *lines: Line) -> list[Report]:
    return moving_in.take(desk.database, OPERATOR, lines, ISSUER)


def _rehearse(desk: Desk, *lines: Line) -> list[Report]:
    return moving_in.rehearse(desk.database, OPERATOR, lines, ISSUER)


def _rows(desk: Desk) -> dict[str, int]:
    counts = {name: sa.select(sa.func.count()).select_from(table) for name, table in metadata.tables.items()}
    return desk.read(lambda tx: {name: tx.execute(query).scalar_one() for name, query in counts.items()})


@pytest.fixture
def whole(desk: Desk) -> Line:
    """A line with every cell."""
    return Line(
        client="Fonderie de l'Est",
        user_name="F.Est@erp",
        language="en",
        siren=desk.siren(),
        company="Fonderie",
        contracts="C-1 C-2:CARD-I",
        formats="pdf xml",
        receipt="full_read",
        networks="192.0.2.7 198.51.100.0/24",
        email="a@est.example, b@est.example",
        subscribe_from="2026-01-01",
        reason="as on the server before",
        authorized_keys=_key(),
    )


def test_a_line_makes_all_that_it_names(desk: Desk, whole: Line) -> None:
    """One line is one client that can log in and receive."""
    (report,) = _take(desk, whole)
    assert (report.outcome, report.reason) == ("created", "")
    client = desk.read(lambda tx: tx.exec(select(Client)).one())
    (folder,) = desk.do(folders.list_folders, client.id)
    assert (client.name, client.language, folder.user_name) == (whole.client, "en", whole.user_name)
    assert (folder.formats, folder.receipt_mode) == (["pdf", "xml"], "full_read")
    assert folder.networks == ["192.0.2.7/32", "198.51.100.0/24"]
    (key,) = desk.do(sshkeys.list_keys, client.id)
    assert key.label == "erp"
    assert {box.address for box in desk.do(settings.list_mailboxes, client.id)} == {"a@est.example", "b@est.example"}
    assert [item for item in report.made if item.startswith("subscription")] == ["subscription C-1", "subscription C-2"]


def test_again_it_changes_nothing(desk: Desk, whole: Line) -> None:
    """A list is imported until it is right."""
    _take(desk, whole)
    before = _rows(desk)
    (report,) = _take(desk, whole)
    assert (report.outcome, report.made, [key.outcome for key in report.keys]) == ("same", [], ["same"])
    assert _rows(desk) == before


def test_a_rehearsal_keeps_nothing_and_reports_what_the_import_reports(desk: Desk, whole: Line) -> None:
    """Also of lines that depend on lines before them, and of those that are refused."""
    other = dataclasses.replace(whole, siren=desk.siren(), company="Autre", contracts="D-1", authorized_keys="")
    lines = [
        whole,
        other,
        whole,
        Line("Fonderie de l'Est", "someone-else"),
        Line("Autre", whole.user_name),
        Line("Autre", "autre", siren="123456789"),
        Line("Autre", "au tre"),
        Line("Autre", "autre", contracts="C-9"),
        Line("Autre", "autre", authorized_keys=f'command="x" {_key()}\n{_key()}'),
        Line("Autre", "autre", receipt="delete", language="fr"),
        Line("Autre", "autre", receipt="api"),
    ]
    before = _rows(desk)
    rehearsed = _rehearse(desk, *lines)
    assert _rows(desk) == before
    assert rehearsed == _take(desk, *lines)
    assert [report.outcome for report in rehearsed] == [
        "created", "created", "same", "differs", "refused", "refused", "refused", "refused", "created", "same",
        "differs",
    ]  # fmt: skip
    assert [report.column for report in rehearsed] == [
        "", "", "", "user_name", "user_name", "siren", "user_name", "siren", "", "", "receipt"
    ]  # fmt: skip
    assert [key.outcome for key in rehearsed[8].keys] == ["refused", "added"]


def test_others_write_while_a_list_is_rehearsed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long list takes seconds, and a dry run must not hold up receipts and documents for so long."""
    take, order = moving_in._take, []
    other = threading.Thread(target=lambda: desk.database.write(lambda _: order.append("other")))

    def watched(tx: Transaction, actor: Actor, line: Line, issuer: Issuer) -> Report:
        if line.client == "Client 3":
            other.start()
            other.join(0.5)  # on SQLite it waits for the one writer
        order.append(line.client)
        return take(tx, actor, line, issuer)

    monkeypatch.setattr(moving_in, "_take", watched)
    _rehearse(desk, *(Line(f"Client {number}", f"u{number}", contracts=f"C-{number}") for number in range(9)))
    other.join()
    assert order.index("other") < order.index("Client 5")


FEW = st.sampled_from
SIRENS = ["732829320", "FR44732829320", "552 100 554", "x", ""]
LINES = st.builds(
    Line,
    client=FEW(["Été", "ete", "B", "C", "D"]),
    user_name=FEW(["a", "A", "b", "c", "d", "?"]),
    siren=FEW(SIRENS),
    company=FEW(["", "Co", "Other"]),
    contracts=FEW(["", "K-1", "K-1:CARD_I", "K-2;K-1", "K-3"]),
    formats=FEW(["", "pdf", "pdf xml"]),
    email=FEW(["", "a@b.example"]),
)


@hypothesis.settings(max_examples=30, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(st.lists(LINES, max_size=8))
def test_a_rehearsal_of_any_list_says_what_the_import_says(desk: Desk, lines: list[Line]) -> None:
    """However its lines hang together, whatever is there already from the lists before."""
    rehearsed = _rehearse(desk, *lines)
    assert rehearsed == _take(desk, *lines)


def test_many_contracts_on_many_lines_are_told_apart_at_once(desk: Desk) -> None:
    """A list as large as one may be costs no more than to read it."""
    contracts = " ".join(f"K-{number}" for number in range(400))
    lines = [Line("A", "a", contracts=contracts)] * 2000 + [Line("B", "b")]
    assert [len(one) for one in moving_in._apart(lines)] == [2000, 1]


@pytest.mark.parametrize(
    ("column", "cell"),
    [("language", "de"), ("siren", "1"), ("formats", "doc"), ("receipt", "never"), ("networks", "here"),
     ("email", "nobody"), ("subscribe_from", "tomorrow"), ("contracts", "C-1:"), ("user_name", "a/b"),
     ("client", "")],
)  # fmt: skip
def test_a_bad_cell_refuses_its_line_alone_and_is_named(desk: Desk, whole: Line, column: str, cell: str) -> None:
    """A line is whole or nothing; the lines after it are taken."""
    bad = dataclasses.replace(whole, **{column: cell})
    if (column, cell) == ("contracts", "C-1:"):
        bad = dataclasses.replace(whole, contracts="C 1/!")
    before = _rows(desk)
    (report,) = _take(desk, bad)
    assert (report.outcome, report.column) == ("refused", column), report
    assert _rows(desk) == before
    assert [one.outcome for one in _take(desk, bad, whole)] == ["refused", "created"]


@pytest.mark.parametrize(
    ("column", "cell"),
    [("language", "fr"), ("formats", "pdf"), ("receipt", "api"), ("networks", "192.0.2.8"), ("email", "c@est.example"),
     ("company", "Other name")],
)  # fmt: skip
def test_what_is_there_and_differs_is_said_and_not_changed(desk: Desk, whole: Line, column: str, cell: str) -> None:
    """Somebody may have changed it on purpose since."""
    _take(desk, whole)
    before = _rows(desk)
    (report,) = _take(desk, dataclasses.replace(whole, **{column: cell}))
    assert (report.outcome, report.column) == ("differs", "siren" if column == "company" else column)
    assert _rows(desk) == before


def test_from_of_all_keys_alike_becomes_the_folders_networks(desk: Desk) -> None:
    """The new gate is as narrow as the old one was."""
    line = Line("A", "a", authorized_keys=f'from="192.0.2.0/24" {_key()}\nfrom="192.0.2.0/24" {_key()}')
    (report,) = _take(desk, line)
    assert [key.outcome for key in report.keys] == ["added", "added"]
    assert _folder(desk).networks == ["192.0.2.0/24"]
    assert _take(desk, line)[0].outcome == "same"


def test_a_key_is_refused_where_it_would_open_the_folder_from_more_places(desk: Desk) -> None:
    """Networks are the folder's, not the key's: one key without them would open it to all."""
    keys = f'from="192.0.2.0/24" {_key("narrow")}\n{_key("wide")}'
    (report,) = _take(desk, Line("A", "a", authorized_keys=keys))
    assert [(key.label, key.outcome) for key in report.keys] == [("narrow", "refused"), ("wide", "added")]
    (report,) = _take(desk, Line("B", "b", networks="192.0.2.16/28", authorized_keys=keys))
    assert [key.outcome for key in report.keys] == ["added", "added"]


def _folder(desk: Desk) -> Folder:
    return desk.read(lambda tx: tx.exec(select(Folder)).one())


def test_a_key_that_has_expired_is_refused(desk: Desk) -> None:
    """It opened nothing on the server before either."""
    ended = (dt.datetime.now(dt.UTC) - dt.timedelta(days=1)).strftime("%Y%m%d%H%MZ")
    (report,) = _take(desk, Line("A", "a", authorized_keys=f'expiry-time="{ended}" {_key()}'))
    assert [key.outcome for key in report.keys] == ["refused"]
