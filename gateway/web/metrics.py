"""Figures for Prometheus: requests are counted as they pass, what waits is read from the database at each scrape.

Each application has a registry of its own. A database that is away leaves its figures out and says so
(`gateway_database_up 0`); the scrape itself does not fail.
"""

import threading
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from .. import clock
from .overview import Certificate, Disk, Waiting

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """Every figure, by its name in the exposition."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._scrape = threading.Lock()  # one at a time: a scrape replaces the gauges
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "gateway_http_requests_total", "Requests answered", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "gateway_http_request_seconds", "Time to answer", ["method", "route"], registry=self._registry
        )
        self._up = self._gauge("gateway_database_up", "1: the database answers")
        self._documents = self._gauge("gateway_documents_waiting", "Documents that are not done", "state")
        self._documents_age = self._gauge("gateway_documents_oldest_seconds", "Age of the oldest of them", "state")
        self._deliveries = self._gauge("gateway_deliveries", "Deliveries not done, or failed", "channel", "state")
        self._deliveries_age = self._gauge(
            "gateway_deliveries_oldest_seconds", "Age of the oldest of them", "channel", "state"
        )
        self._manifests = self._gauge("gateway_manifests_behind", "Folders that lack a manifest that should be there")
        self._disk = self._gauge("gateway_disk_free_percent", "Free space where the next bytes go")
        self._floor = self._gauge("gateway_disk_floor_percent", "Below this the intake refuses")
        self._ends = self._gauge("gateway_certificate_expiry_seconds", "Unix time of the end of validity", "use")
        self._pool = self._gauge("gateway_web_calls_pending", "Calls running and waiting in the web's pool")

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered; `route` is a template, so that the number of series is bounded."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render(
        self,
        documents: Sequence[Waiting] | None,
        deliveries: Sequence[Waiting] | None,
        manifests_behind: int | None,
        disk: Disk,
        certificates: Sequence[Certificate],
        pending: int,
    ) -> bytes:
        """The text exposition. None: the database was not to be asked."""
        with self._scrape:
            self._up.set(documents is not None and deliveries is not None)
            for gauge in (self._documents, self._documents_age, self._deliveries, self._deliveries_age, self._ends):
                gauge.clear()
            now = clock.now()
            for row in documents or ():
                self._documents.labels(row.state).set(row.count)
                self._documents_age.labels(row.state).set((now - row.oldest_at).total_seconds())
            for row in deliveries or ():
                self._deliveries.labels(row.channel, row.state).set(row.count)
                self._deliveries_age.labels(row.channel, row.state).set((now - row.oldest_at).total_seconds())
            if manifests_behind is not None:
                self._manifests.set(manifests_behind)
            for certificate in certificates:
                if certificate.not_after is not None:
                    self._ends.labels(certificate.use).set(certificate.not_after.timestamp())
            self._disk.set(disk.free_percent)
            self._floor.set(disk.floor_percent)
            self._pool.set(pending)
            return generate_latest(self._registry)
