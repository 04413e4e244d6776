"""How the gateway is: for operators (/status), for supervisors (/healthz, /readyz), for Prometheus (/metrics)."""

import asyncio
import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field

from ... import __version__, clock
from ...access import Permission
from ...dropfolder import manifests
from ...errors import GatewayError, Unavailable
from ...store.database import Transaction
from .. import overview
from ..calls import Call
from ..login import Needs
from ..metrics import Metrics
from ..overview import Certificates
from ..parts import Parts
from . import API

routes = APIRouter(prefix=API, tags=["status"])
probes = APIRouter(tags=["probes"])
Reading = Annotated[Call, Depends(Needs(Permission.DOCUMENTS_READ, operators_only=True))]
READY_SECONDS = 5.0


class WaitingShown(BaseModel):
    """Things in one state, and since when the oldest of them is there."""

    model_config = ConfigDict(from_attributes=True)

    channel: str = Field(description="Empty for documents")
    state: str
    count: int
    oldest_at: dt.datetime


class CertificateShown(BaseModel):
    """A certificate in use."""

    use: str
    subject: str
    not_after: dt.datetime | None
    days_left: int | None
    trouble: str = Field(description="Why nothing can be signed with it; empty when something can")


class DiskShown(BaseModel):
    """Space where the next bytes go."""

    model_config = ConfigDict(from_attributes=True)

    free_percent: float
    floor_percent: float
    is_low: bool


class ManifestsShown(BaseModel):
    """The signed manifests of folders: whether one is behind, and whether the next can be signed."""

    behind: int = Field(description="Folders that lack a manifest which should be there for an hour")
    first_day: dt.date | None = Field(description="The first day that one of them lacks; null where one has none yet")
    trouble: str = Field(description="Why none is signed, or soon will not be; empty when all is well")


class Status(BaseModel):
    """What waits, and what could stop the gateway."""

    version: str
    at: dt.datetime
    documents: list[WaitingShown]
    deliveries: list[WaitingShown]
    certificates: list[CertificateShown]
    manifests: ManifestsShown
    disk: DiskShown


class Ready(BaseModel):
    """`ready`, and for each check `ok` or what is wrong."""

    ready: bool
    database: str
    disk: str
    key: str


@routes.get("/status", response_model=Status)
async def status(call: Reading) -> Response:
    """What waits by state and age, the disk, the certificates."""
    certificates = call.request.app.state.certificates
    zone = call.parts.settings.issuer.zone

    def step(tx: Transaction) -> dict[str, Any]:
        now = clock.now()
        late = manifests.behind(tx, zone)
        shown = Status(
            version=__version__,
            at=now,
            documents=[WaitingShown.model_validate(row) for row in overview.documents_waiting(tx)],
            deliveries=[WaitingShown.model_validate(row) for row in overview.deliveries_open(tx)],
            certificates=[_certificate(one, now) for one in certificates.read()],
            manifests=ManifestsShown(
                behind=late.folders,
                first_day=late.first_day,
                trouble=overview.manifest_trouble(certificates.read()[0], now),
            ),
            disk=DiskShown.model_validate(overview.disk(call.parts.settings, call.parts.blobs)),
        )
        return shown.model_dump(mode="json")

    return await call.answer(step)


def _certificate(certificate: overview.Certificate, now: dt.datetime) -> CertificateShown:
    ends = certificate.not_after
    return CertificateShown(
        use=certificate.use,
        subject=certificate.subject,
        not_after=ends,
        days_left=None if ends is None else (ends - now).days,
        trouble=overview.trouble(certificate, now),
    )


@probes.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers; no pool and no database is asked."""
    return {"status": "ok"}


@probes.get("/readyz", response_model=Ready, responses={503: {"model": Ready, "description": "Not ready"}})
async def readyz(request: Request) -> JSONResponse:
    """Whether documents can be taken in and sealed now: database, disk, key."""
    parts: Parts = request.app.state.parts
    certificates: Certificates = request.app.state.certificates
    database, key = await asyncio.gather(_ask(parts, _database), _ask(parts, lambda _: _seal_key(certificates)))
    disk = "below its floor" if overview.disk(parts.settings, parts.blobs).is_low else "ok"
    ready = {database, key, disk} == {"ok"}
    return JSONResponse({"ready": ready, "database": database, "disk": disk, "key": key}, 200 if ready else 503)


async def _ask(parts: Parts, check: Any) -> str:
    try:
        async with asyncio.timeout(READY_SECONDS):
            answer: str = await parts.pool.run(check, parts)
            return answer
    except TimeoutError:
        return f"no answer within {READY_SECONDS:g} s"
    except GatewayError as error:
        return error.message


def _database(parts: Parts) -> str:
    parts.db.read(lambda tx: tx.connection().exec_driver_sql("SELECT 1").scalar())
    return "ok"


def _seal_key(certificates: Certificates) -> str:
    return overview.trouble(certificates.read()[0], clock.now()) or "ok"


@probes.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Figures for Prometheus: totals only, nothing about anybody."""
    parts: Parts = request.app.state.parts
    figures: Metrics = request.app.state.metrics
    certificates: Certificates = request.app.state.certificates
    content = await parts.pool.run(_render, parts, figures, certificates)
    return Response(content, media_type=CONTENT_TYPE_LATEST)


def _render(parts: Parts, figures: Metrics, certificates: Certificates) -> bytes:
    disk, zone = overview.disk(parts.settings, parts.blobs), parts.settings.issuer.zone

    def step(tx: Transaction) -> tuple[Any, Any, int]:
        return overview.documents_waiting(tx), overview.deliveries_open(tx), manifests.behind(tx, zone).folders

    try:
        documents, deliveries, behind = parts.db.read(step)
    except Unavailable:
        return figures.render(None, None, None, disk, certificates.read(), parts.pool.pending)
    return figures.render(documents, deliveries, behind, disk, certificates.read(), parts.pool.pending)
