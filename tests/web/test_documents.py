"""Documents by the API: handed in, found, read, explained."""

import datetime as dt
import functools
import hashlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.access import Role
from gateway.domain.documents import Document
from gateway.domain.states import DocumentState, Kind, Nature
from gateway.store.database import Transaction
from tests.intake import makers

from .world import PDF, World, document


def _invoice(world: World, number: str = "F2026-0042", **facts: Any) -> bytes:
    party = world.parties[0]
    xml = makers.invoice_xml(number, seller=makers.legal(makers.SELLER), buyer=makers.legal(party.siren),
                             contract=party.number, **facts)  # fmt: skip
    return makers.factur_x(xml)


def _submit(world: World, content: bytes, token: str = "admin", **request: Any) -> Any:
    return world.ask("POST", "/documents", token, files={"file": ("x.pdf", content, "application/pdf")}, **request)


def test_a_document_is_new_once_and_the_same_after_that(anywhere: World) -> None:
    """A billing system that lost the answer asks again: it must learn the same, and nothing may happen twice."""
    content = _invoice(anywhere)
    new, again = _submit(anywhere, content), _submit(anywhere, content)
    assert (new.status_code, new.json()["outcome"], new.json()["nature"]) == (201, "new", "original")
    assert (again.status_code, again.json()["outcome"], again.json()["id"]) == (200, "again", new.json()["id"])
    assert new.headers["location"] == f"/api/v1/documents/{new.json()['id']}"
    shown = anywhere.ask("GET", f"/documents/{new.json()['id']}", "admin").json()
    assert (shown["number"], shown["total"], shown["source"]) == ("F2026-0042", "120.00", "api")
    assert (shown["siren"], shown["contract"]) == (anywhere.parties[0].siren, anywhere.parties[0].number)


def test_other_bytes_under_the_same_number_are_409_and_kept_in_quarantine(gateway: World) -> None:
    """The first stays; a person decides."""
    first = _submit(gateway, _invoice(gateway)).json()["id"]
    other = _submit(gateway, _invoice(gateway, total="121.00"))
    assert (other.status_code, other.json()["code"]) == (409, "quarantined")
    assert other.headers["content-type"] == "application/problem+json"
    kept = gateway.ask("GET", f"/documents/{other.json()['document']}", "admin").json()
    assert (kept["state"], kept["nature"]) == ("quarantined", None)
    assert gateway.ask("GET", f"/documents/{first}", "admin").json()["state"] == "received"


def test_a_sidecar_goes_with_its_file(gateway: World) -> None:
    """Any PDF with a sidecar is accepted."""
    party = gateway.parties[0]
    facts = {"kind": "contract", "number": "K-1", "issue_date": "2026-09-01", "contract": party.number,
             "seller_siren": makers.SELLER}  # fmt: skip
    files = {
        "file": ("x.pdf", makers.pdf(), "application/pdf"),
        "sidecar": ("s.json", json.dumps(facts).encode(), "application/json"),
    }
    answer = gateway.ask("POST", "/documents", "admin", files=files)
    assert (answer.status_code, answer.json()["number"], answer.json()["nature"]) == (201, "K-1", None)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [(b"", 422, None), (b"%", 422, None), (b"hello, this is text", 422, None), (b"%PDF-1.7 cut", 422, None)],
)
def test_what_is_no_document_is_refused_with_its_reason_and_nothing_is_kept(
    gateway: World, content: bytes, status: int, code: str | None
) -> None:
    """Nothing half: no row, no bytes, no scratch file."""
    before = gateway.ask("GET", "/documents", "admin").json()["items"]
    answer = _submit(gateway, content)
    assert answer.status_code == status
    assert answer.json()["detail"]
    assert gateway.ask("GET", "/documents", "admin").json()["items"] == before
    scratch = gateway.parts.settings.store.directory / "blobs" / "scratch"
    assert list(scratch.iterdir()) == []


def test_a_document_over_the_limit_is_413_and_read_no_further(gateway: World) -> None:
    """The limit is the document's, not the request's."""
    limit = int(gateway.parts.settings.intake.max_megabytes * 1_000_000)
    answer = _submit(gateway, b"%PDF-1.7" + b"x" * limit)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    scratch = gateway.parts.settings.store.directory / "blobs" / "scratch"
    assert list(scratch.iterdir()) == []


def test_a_full_disk_is_507_and_asks_to_try_again(gateway: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """THREATS: below the floor the intake answers 507; reads go on."""
    monkeypatch.setattr(gateway.parts.intake, "_is_disk_low", lambda: True)
    answer = _submit(gateway, _invoice(gateway))
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
    assert answer.headers["retry-after"]
    assert gateway.ask("GET", "/documents", "admin").status_code == 200


def test_a_repeat_under_an_idempotency_key_gets_the_first_answer(gateway: World) -> None:
    """201 again, not 200: the caller's first answer was lost, not the document. The form's boundary does not count."""
    content, headers = _invoice(gateway), {"Idempotency-Key": "k1"}
    first, again = _submit(gateway, content, headers=headers), _submit(gateway, content, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
    other = _submit(gateway, _invoice(gateway, "F-2"), headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert gateway.ask("GET", "/documents", "admin", params={"number": "F-2"}).json()["items"] == []


def test_content_is_the_sealed_bytes_with_their_digest_as_etag(gateway: World) -> None:
    """C4: the SHA-256 of what is read equals the archive's."""
    own = gateway.parties[0]
    answer = gateway.ask("GET", f"/documents/{own.document}/content", "own")
    assert (answer.status_code, answer.content) == (200, PDF + own.siren.encode())
    shown = gateway.ask("GET", f"/documents/{own.document}", "own").json()
    assert answer.headers["etag"] == f'"{shown["sealed_sha256"]}"'
    assert answer.headers["content-disposition"] == (
        f'attachment; filename="20260901_{own.number}_F-{own.siren}_ORIG.pdf"'
    )
    same = gateway.ask(
        "GET", f"/documents/{own.document}/content", "own", headers={"If-None-Match": answer.headers["etag"]}
    )
    assert (same.status_code, same.content) == (304, b"")


def test_bytes_that_the_disk_damaged_or_lost_are_never_served(gateway: World) -> None:
    """Under the original's name and ETag they would be taken for it; they are not "not found" either."""
    own = gateway.parties[0]
    path = gateway.parts.blobs.path(hashlib.sha256(PDF + own.siren.encode()).hexdigest())
    path.chmod(0o600)
    path.write_bytes(b"x" + PDF[1:] + own.siren.encode())
    damaged = gateway.ask("GET", f"/documents/{own.document}/content", "own")
    path.unlink()
    lost = gateway.ask("GET", f"/documents/{own.document}/content", "own")
    assert [(answer.status_code, answer.json()["code"]) for answer in (damaged, lost)] == [(503, "unavailable")] * 2


def test_a_duplicate_is_served_stamped_and_never_as_it_was_received(gateway: World) -> None:
    """Row 2 of the customer's text: without a subscription, a duplicate; the received bytes stay inside."""
    party = gateway.parties[0]
    received = makers.pdf()

    def add(tx: Transaction) -> str:
        blob = gateway.parts.blobs.put(received)
        row = document(party, "D-1", blob.sha256, blob.size, nature=Nature.DUPLICATE, state=DocumentState.RECEIVED,
                       sealed_sha256=None, sealed_size=None, subscription_id=None)  # fmt: skip
        tx.add(row)
        return row.id

    id_ = gateway.write(add)
    answer = gateway.ask("GET", f"/documents/{id_}/content", "own")
    assert answer.status_code == 200
    assert answer.content.startswith(b"%PDF")
    assert answer.content != received
    assert "DUPLICATA" in answer.headers["content-disposition"]
    assert gateway.ask("GET", f"/documents/{id_}/content", "own").content == answer.content


def test_a_document_that_is_not_sealed_yet_has_no_content(gateway: World) -> None:
    """409, with what it is: not an empty file."""
    answer = gateway.ask("GET", f"/documents/{gateway.parties[0].quarantined}/content", "admin")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_ready")


def _many(tx: Transaction, world: World) -> list[Document]:
    kinds, natures = list(Kind)[:3], [Nature.ORIGINAL, Nature.PLATFORM_COPY, Nature.DUPLICATE]
    rows = []
    for i in range(40):
        party = world.parties[i % 2]
        rows.append(
            document(
                party,
                f"N-{i:03d}",
                kind=kinds[i % 3],
                nature=natures[i % 3],
                issue_date=dt.date(2026, 8, 1) + dt.timedelta(days=i),
                received_at=dt.datetime(2026, 9, 1, 22, 30, tzinfo=dt.UTC) + dt.timedelta(days=i),
            )
        )
    tx.add_all(rows)
    return rows


FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "client": st.sampled_from([0, 1, 2]),
        "siren": st.sampled_from([0, 1, 2]),
        "contract": st.sampled_from([0, 1, 2]),
        "nature": st.sampled_from(Nature),
        "kind": st.sampled_from(Kind),
        "state": st.sampled_from(DocumentState),
        "number": st.sampled_from(["N-003", "N-004", "none"]),
        "issued_from": st.dates(dt.date(2026, 7, 25), dt.date(2026, 9, 20)),
        "issued_to": st.dates(dt.date(2026, 7, 25), dt.date(2026, 9, 20)),
        "received_from": st.dates(dt.date(2026, 8, 25), dt.date(2026, 10, 20)),
        "received_to": st.dates(dt.date(2026, 8, 25), dt.date(2026, 10, 20)),
    },
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=FILTERS, limit=st.integers(1, 30))
def test_filters_and_pages_give_exactly_the_rows_that_fit_newest_first(
    anywhere: World, wanted: dict[str, Any], limit: int
) -> None:
    """Any filters, any page size: nothing missing, nothing twice, in one order; periods include both ends."""
    if not anywhere.rows:
        anywhere.rows = anywhere.write(functools.partial(_many, world=anywhere))
    clients, sirens, numbers = (
        [getattr(party, name) for party in anywhere.parties] + ["unknown"] for name in ("client", "siren", "number")
    )
    zone = anywhere.parts.settings.issuer.zone

    def fits(row: Document) -> bool:
        day = row.received_at.astimezone(zone).date()
        return (
            ("client" not in wanted or row.client_id == clients[wanted["client"]])
            and ("siren" not in wanted or row.client_id == (clients[wanted["siren"]]))
            and ("contract" not in wanted or row.client_id == clients[wanted["contract"]])
            and all(
                getattr(row, name) == wanted[name] for name in ("nature", "kind", "state", "number") if name in wanted
            )
            and row.issue_date >= wanted.get("issued_from", dt.date.min)
            and row.issue_date <= wanted.get("issued_to", dt.date.max)
            and day >= wanted.get("received_from", dt.date.min)
            and day <= wanted.get("received_to", dt.date.max)
        )

    query = wanted | {
        name: values[wanted[name]]
        for name, values in (("client", clients), ("siren", sirens), ("contract", numbers))
        if name in wanted
    }
    found = [one for one in _pages(anywhere, {**query, "limit": limit}) if one.startswith("N-")]
    expected = [row.number for row in reversed(anywhere.rows) if fits(row)]
    assert found == expected


def _pages(world: World, query: dict[str, Any]) -> list[str]:
    params = {name: str(getattr(value, "value", value)) for name, value in query.items()}

    async def act(client: Any) -> list[str]:
        numbers: list[str] = []
        cursor = None
        while True:
            answer = await client.get("/api/v1/documents", params=params | ({"cursor": cursor} if cursor else {}))
            assert answer.status_code == 200, answer.text
            page = answer.json()
            assert len(page["items"]) <= query["limit"]
            numbers += [item["number"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return numbers

    result: list[str] = world.run(act)
    return result


def test_a_row_that_arrives_meanwhile_is_neither_shown_twice_nor_shifts_a_page(gateway: World) -> None:
    """OFFSET would: that is why the cursor is a key."""
    gateway.write(functools.partial(_many, world=gateway))
    first = gateway.ask("GET", "/documents", "admin", params={"limit": 10}).json()
    gateway.write(lambda tx: tx.add(document(gateway.parties[0], "LATE")))
    rest = gateway.ask("GET", "/documents", "admin", params={"limit": 200, "cursor": first["next_cursor"]}).json()
    numbers = [item["number"] for item in (*first["items"], *rest["items"])]
    assert len(numbers) == len(set(numbers)) == 44
    assert "LATE" not in numbers


@pytest.mark.parametrize(
    "query",
    [{"nature": "copy"}, {"issued_from": "yesterday"}, {"limit": "0"}, {"limit": "201"}, {"state": "sent"},
     {"colour": "red"}, {"cursor": "x"}, {"issued_from": "2026-02-30"}],
)  # fmt: skip
def test_a_filter_that_means_nothing_is_422_and_not_ignored(gateway: World, query: dict[str, str]) -> None:
    """An ignored filter answers too much, and the caller believes it."""
    answer = gateway.ask("GET", "/documents", "admin", params=query)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


def test_explain_tells_the_life_in_words(anywhere: World) -> None:
    """A12: one call shows the whole life of one invoice."""
    own = anywhere.parties[0]
    told = anywhere.ask("GET", f"/documents/{own.document}/explain", Role.AUDITOR.value).json()
    assert told["number"] == f"F-{own.siren}"
    assert f"mailbox compta@{own.siren}.example" in told["moments"][0]["text"]
    assert told["deliveries"][0]["text"].endswith("answer: 550 5.1.1 no such user")


def test_a_filter_that_is_given_twice_is_refused(gateway: World) -> None:
    """One of the two would silently not be asked for."""
    answer = gateway.ask("GET", "/documents?state=sealed&state=received", "own")
    assert (answer.status_code, answer.json()["code"]) == (422, "parameter_twice")


def test_a_credit_note_that_came_before_its_invoice_shows_it(anywhere: World) -> None:
    """The last bearer of the number before it, of the same company; another company's is none of its business."""
    own, other = anywhere.parties
    day = dt.date(2026, 9, 2)
    note = document(own, "CN-1", type_code="381", corrects="INV-1", issue_date=day)
    later = document(own, "INV-1", issue_date=day + dt.timedelta(days=1), key="k1", accepted_key="k1")
    right = document(own, "INV-1", issue_date=dt.date(2026, 9, 1))
    foreign = document(other, "INV-1", issue_date=dt.date(2026, 9, 1), key="k2", accepted_key="k2")
    anywhere.write(lambda tx: tx.add_all([note]))
    assert anywhere.ask("GET", f"/documents/{note.id}", "own").json()["corrects_document"] is None
    anywhere.write(lambda tx: tx.add_all([later, right, foreign]))
    assert anywhere.ask("GET", f"/documents/{note.id}", "own").json()["corrects_document"] == right.id
    listed = anywhere.ask("GET", "/documents", "own", params={"number": "CN-1"}).json()["items"]
    assert [one["corrects_document"] for one in listed] == [right.id]
