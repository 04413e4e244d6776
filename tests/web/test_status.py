"""Probes, figures and the operators' status."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway import clock
from gateway.demo.authority import Authority
from gateway.errors import Unavailable
from gateway.store.database import Database
from gateway.web.overview import Certificate, Certificates, manifest_trouble

from .world import World, build


def test_healthz_answers_when_the_database_and_the_pool_do_not(gateway: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor must not restart a process because its database is away."""
    monkeypatch.setattr(gateway.parts.pool, "run", _refuse)
    assert gateway.ask("GET", "//gateway/healthz").json() == {"status": "ok"}
    ready = gateway.ask("GET", "//gateway/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert "try again" in ready.json()["database"]


async def _refuse(*_: Any) -> None:
    raise Unavailable("too much to do at the moment; try again")


def test_readyz_names_what_is_missing(gateway: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Database, disk, key: each by itself."""
    shown = gateway.ask("GET", "//gateway/readyz")
    assert shown.status_code == 503
    assert shown.json() == {
        "ready": False, "database": "ok", "disk": "ok", "key": "no certificate is configured"
    }  # fmt: skip
    monkeypatch.setattr(gateway.parts.blobs, "free_percent", lambda: -1.0)
    assert gateway.ask("GET", "//gateway/readyz").json()["disk"] == "below its floor"


def test_a_gateway_with_a_valid_key_is_ready_until_it_expires(
    tmp_path: Path, sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A7: sealing stops without a valid key."""
    seal = Authority.create(tmp_path / "ca").seal
    made = build(tmp_path, sqlite, seal={"certificate": seal.pkcs12, "password_file": seal.password_file})
    try:
        assert made.ask("GET", "//gateway/readyz").json() == {
            "ready": True, "database": "ok", "disk": "ok", "key": "ok"
        }  # fmt: skip
        later = clock.now() + dt.timedelta(days=3650)
        monkeypatch.setattr(clock, "now", lambda: later)
        late = made.ask("GET", "//gateway/readyz")
        assert (late.status_code, late.json()["key"][:13]) == (503, "it expired on")
    finally:
        made.parts.pool.close()
        made.intake.close()
        made.sealers.close()


def test_the_status_counts_what_waits(anywhere: World) -> None:
    """Two documents in quarantine, two mails that failed, no key."""
    shown = anywhere.ask("GET", "/status", "viewer").json()
    assert [(one["state"], one["count"]) for one in shown["documents"]] == [("quarantined", 2)]
    assert [(one["channel"], one["state"], one["count"]) for one in shown["deliveries"]] == [("email", "failed", 2)]
    assert [one["use"] for one in shown["certificates"]] == ["seal", "mail"]
    assert shown["disk"]["is_low"] is False


def test_the_status_says_when_manifests_are_behind_or_will_not_be_signed(
    gateway: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two folders without one for two days; a key that ends in two weeks, in two months, that has ended, or is none."""
    assert gateway.ask("GET", "/status", "viewer").json()["manifests"] == {
        "behind": 0, "first_day": None, "trouble": "no manifest is signed: no certificate is configured"
    }  # fmt: skip
    later = clock.now() + dt.timedelta(days=2, hours=2)
    monkeypatch.setattr(clock, "now", lambda: later)
    shown = gateway.ask("GET", "/status", "viewer").json()["manifests"]
    assert (shown["behind"], shown["first_day"]) == (2, None)
    assert _figures(gateway)["gateway_manifests_behind", ()] == 2
    for days, said in ((14, "ends in 14 days"), (60, ""), (-1, "it expired on")):
        seal = Certificate("seal", "CN=Enerdis", later + dt.timedelta(days=days, minutes=1), "")
        assert said in manifest_trouble(seal, later) and bool(said) == bool(manifest_trouble(seal, later))


def _figures(world: World) -> dict[tuple[str, tuple[str, ...]], float]:
    text = world.ask("GET", "//gateway/metrics").text
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_requests_by_route_and_what_waits_by_state(gateway: World) -> None:
    """One series a route, however many documents are asked for; unknown paths are one series together."""
    for path in ("a", "b", "c"):
        gateway.ask("GET", f"/documents/{path}", "admin")
        gateway.ask("GET", f"//gateway/{path}")
    found = _figures(gateway)
    assert found["gateway_http_requests_total", ("GET", "/api/v1/documents/{document_id}", "404")] == 3
    assert found["gateway_http_requests_total", ("GET", "unknown", "404")] == 3
    assert found["gateway_documents_waiting", ("quarantined",)] == 2
    assert found["gateway_deliveries", ("email", "failed")] == 2
    assert found["gateway_database_up", ()] == 1


def test_a_method_that_nobody_knows_makes_no_series_of_its_own(gateway: World) -> None:
    """A hostile peer must not fill the memory with figures."""
    for number in range(5):
        gateway.ask(f"X{number}", "/documents", "admin")
    methods = {labels[0] for (name, labels) in _figures(gateway) if name == "gateway_http_requests_total"}
    assert methods <= {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "other"}


def test_metrics_without_a_database_say_so_and_keep_the_rest(gateway: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scrape is what tells of the outage."""

    def away(_: Any) -> None:
        raise Unavailable("the database does not answer; try again")

    monkeypatch.setattr(gateway.parts.db, "read", away)
    found = _figures(gateway)
    assert found["gateway_database_up", ()] == 0
    assert ("gateway_disk_free_percent", ()) in found
    assert not any(name == "gateway_documents_waiting" for name, _ in found)


def test_key_files_are_not_opened_at_every_scrape(gateway: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening one costs a key derivation of a tenth of a second."""
    certificates = Certificates(gateway.parts.settings)
    first = certificates.read()
    monkeypatch.setattr("gateway.web.overview._certificate", lambda *_: pytest.fail("read again"))
    assert certificates.read() is first
