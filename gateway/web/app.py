"""The operators' HTTP application: routes, errors, limits and description put together.

Deny by default: an application with a route that names no permission is not built; what is open to everybody on
loopback stands in PUBLIC and tells nothing about anybody.
"""

from fastapi import FastAPI

from .. import __version__
from . import openapi, problems
from .api import (
    connections,
    contracts,
    decisions,
    deliveries,
    documents,
    folder,
    history,
    host_keys,
    imports,
    keys,
    manifests,
    parties,
    passwords,
    permits,
    sandbox,
    settings,
    status,
    submissions,
    subscriptions,
    tokens,
)
from .login import needs_of
from .metrics import Metrics
from .overview import Certificates
from .parts import Parts
from .requests import Requests

__all__ = ["PUBLIC", "Parts", "create_app", "description"]

PUBLIC = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json"})
_ROUTERS = (
    submissions.routes,
    documents.routes,
    decisions.routes,
    deliveries.routes,
    folder.routes,
    manifests.routes,
    sandbox.routes,
    connections.routes,
    parties.routes,
    contracts.routes,
    subscriptions.routes,
    settings.routes,
    keys.routes,
    passwords.routes,
    permits.routes,
    imports.routes,
    history.routes,
    host_keys.routes,
    tokens.routes,
    status.routes,
    status.probes,
)


def create_app(parts: Parts) -> FastAPI:
    """The application on these parts."""
    app = _routed()
    figures = Metrics()
    app.state.parts = parts
    app.state.metrics = figures
    app.state.certificates = Certificates(parts.settings)
    max_bytes = parts.settings.http.max_upload_megabytes * 1_000_000
    app.add_middleware(Requests, max_bytes=max_bytes, watch=figures.request)
    return app


def description() -> dict[str, object]:
    """The OpenAPI 3.1 document; it needs no parts."""
    return _routed().openapi()


def _routed() -> FastAPI:
    app = FastAPI(
        title="Invoice gateway",
        version=__version__,
        summary="Documents in, deliveries out, and the parties they are for.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in _ROUTERS:
        app.router.routes += router.routes
    for route in app.routes:
        if needs_of(route) is None and getattr(route, "path", "") not in PUBLIC:
            raise RuntimeError(f"the route {route} names no permission")
    problems.install(app)
    openapi.install(app)
    return app
