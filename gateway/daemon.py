"""The composition root: build every part, run them in one TaskGroup, stop them in order.

`open_core` builds what the API and the commands stand on; `serve` adds listeners and workers. One part fails, all
stop, systemd restarts. SIGTERM: listeners close, transfers and attempts may finish up to the grace time, workers end
their turn, the database closes last. SIGHUP re-reads the file: the log's settings apply at once; what needs a restart
is named.
"""

import asyncio
import contextlib
import functools
import gc
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from . import clock, config, log, notify
from .config import Settings
from .delivery import outbox, plan
from .delivery.attempt import MailWorker, forget_messages
from .delivery.publish import Publisher
from .dropfolder.folders import DropFolders
from .dropfolder.intake import Accounts
from .dropfolder.manifests import ManifestMaker
from .dropfolder.monthly import MonthCloser
from .errors import ConfigError, Conflict
from .intake import process as intake_process
from .intake.accounts import AccountSpools
from .intake.read import ReadLimits
from .intake.receive import Intake
from .intake.spool import Spool
from .keys.load import load_pkcs12, read_private
from .mail import smime
from .mail.transport import Relay
from .pools import ThreadPool, WorkerProcesses
from .sealing import process as sealing_process
from .sealing.renditions import Renditions
from .sealing.seal import Sealer
from .servers import httpd
from .servers.ftpsd import FtpsServer
from .servers.sftpd import SftpServer
from .store import migrations, state
from .store.blobs import Blobs, LocalBlobs
from .store.database import Database
from .store.reserve import Reserve
from .store.s3 import S3Blobs
from .web.app import Parts, create_app
from .worker import Worker

logger = structlog.get_logger(__name__)
_SWEEP_SECONDS = 60.0
_DISK_SECONDS = _CLOCK_SECONDS = 5.0
_CLOCK_STEP = 60.0  # seconds that somebody must hear of
_LOCK_SECONDS = 5.0  # a command that was begun just before may hold the lock as long


@dataclass
class Wakes:
    """Hints that there is work; each is replaced by the worker's own when `serve` runs one."""

    sealing: Callable[[], None] = lambda: None
    delivery: Callable[[], None] = lambda: None
    mail: Callable[[], None] = lambda: None

    def all(self) -> None:
        """Something was ordered or accepted: let everyone look."""
        self.sealing()
        self.delivery()
        self.mail()


@dataclass(frozen=True)
class Core:
    """What every process that works on the state directory has."""

    settings: Settings
    db: Database
    blobs: Blobs
    work: ThreadPool
    web: ThreadPool
    mail: ThreadPool
    folder: ThreadPool
    readers: WorkerProcesses
    sealers: WorkerProcesses
    intake: Intake
    renditions: Renditions
    reserve: Reserve
    wakes: Wakes


@contextlib.asynccontextmanager
async def open_core(settings: Settings, on_failure: Callable[[], None] = lambda: None) -> AsyncIterator[Core]:
    """The parts below the listeners, while holding the state directory's lock. Conflict when another process has it."""
    async with contextlib.AsyncExitStack() as stack:
        state.prepare(settings.store)
        lock = state.StateLock(settings.store)
        await _acquire(lock)
        stack.callback(lock.release)
        floor = settings.store.free_space_floor_percent
        reserve = Reserve(settings.store.directory, floor, settings.store.reserve_megabytes * 1_000_000)
        reserve.look()  # first: a process that ended for want of space needs it to open the database
        url = state.database_url(settings.store)
        if url.startswith("sqlite"):
            migrations.upgrade_file(url)
        else:
            migrations.require_newest(url)
        db = Database.open(url, on_failure)
        stack.callback(db.close)
        blobs = open_blobs(settings)
        work, mail = ThreadPool("work", 4, 10_000), ThreadPool("mail", 4, 1000)
        web = ThreadPool("web", settings.http.threads, settings.http.queue)
        folder = ThreadPool("folder", settings.sftp.threads, 10_000)
        for pool in (work, mail, web, folder):
            stack.callback(pool.close)
        readers, sealers = _readers(settings), _sealers(settings)
        stack.callback(readers.close)
        stack.callback(sealers.close)
        wakes = Wakes()
        intake = Intake(
            settings.intake,
            settings.issuer,
            lambda: reserve.is_low or blobs.free_percent() < floor,
            db,
            blobs,
            readers,
            sealers,
            work,
            wakes.all,
        )
        renditions = Renditions(db, blobs, sealers, work)
        yield Core(settings, db, blobs, work, web, mail, folder, readers, sealers, intake, renditions, reserve, wakes)


async def _acquire(lock: state.StateLock) -> None:
    """Whoever works alone holds it for moments; a daemon for good: Conflict."""
    end = clock.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return lock.acquire()
        except Conflict:
            if clock.monotonic() > end:
                raise
        await asyncio.sleep(0.1)


def open_blobs(settings: Settings) -> Blobs:
    """The store of bytes that the settings name."""
    directory = settings.store.directory / "blobs"
    return S3Blobs(settings.store.blobs, directory) if settings.store.blobs else LocalBlobs(directory)


def _readers(settings: Settings) -> WorkerProcesses:
    intake = settings.intake
    limits = ReadLimits.of(intake)
    return WorkerProcesses("readers", intake.workers, intake.deadline_seconds, intake_process.start, (limits,))


def _sealers(settings: Settings) -> WorkerProcesses:
    seal = settings.seal
    setup = sealing_process.SealSetup.of(seal)
    return WorkerProcesses("sealers", seal.workers, seal.deadline_seconds, sealing_process.start, (setup,))


def parts_of(core: Core) -> Parts:
    """What the web application is given."""
    return Parts(
        settings=core.settings,
        db=core.db,
        blobs=core.blobs,
        intake=core.intake,
        renditions=core.renditions,
        pool=core.web,
        wake=core.wakes.all,
    )


async def serve(
    path: Path, ready: Callable[["Addresses"], None] = lambda _: None, stop: asyncio.Event | None = None
) -> None:
    """Run the daemon on the settings file `path` until SIGTERM, SIGINT or `stop`; `ready` is told where it listens."""
    settings = config.load(path)
    log.configure(settings.log)
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        core = await stack.enter_async_context(open_core(settings, functools.partial(_disk_failed, loop)))
        daemon = _Daemon(core, stop)
        loop.add_signal_handler(signal.SIGHUP, daemon.reload, path)
        await daemon.run(ready)
    logger.info("daemon.stopped")


def _disk_failed(loop: asyncio.AbstractEventLoop) -> None:
    """A commit failed: nothing may be promised any more. End at once; systemd starts a new process."""
    logger.critical("daemon.disk_failed")
    loop.call_soon_threadsafe(os._exit, 1)


@dataclass(frozen=True)
class Addresses:
    """Where a running daemon listens, (host, port), and its first SFTP host key, as `TYPE BASE64`.

    `ftps`: explicit TLS, then implicit, as far as they are set.
    """

    http: tuple[str, int]
    sftp: tuple[str, int] | None
    sftp_legacy: tuple[str, int] | None
    sftp_host_key: str
    ftps: tuple[tuple[str, int], ...]


class _Daemon:
    """The running parts, and how they stop."""

    def __init__(self, core: Core, stop: asyncio.Event) -> None:
        self._core = core
        self._stop = stop
        self._loop: asyncio.AbstractEventLoop
        settings, db, blobs, work = core.settings, core.db, core.blobs, core.work
        self._publisher = Publisher(db, blobs, settings.issuer.zone, settings.delivery.publish_batch)
        uploads = settings.store.directory / "intake"
        accounts = Accounts(uploads, settings.intake, core.intake.require_space, self._wake_accounts)
        zone = settings.issuer.zone
        self._folders = DropFolders(db, blobs, settings.folder, core.intake.require_space, accounts, zone)
        db.listen(self._folders.hinted)
        self._mail = _mail_worker(core)
        poll = settings.delivery.poll_seconds
        self._sealer = Sealer(settings.seal, db, blobs, core.sealers, work, core.wakes.all)
        issuer = settings.issuer
        manifests = ManifestMaker(db, blobs, zone, issuer.name, core.sealers, work)
        months = MonthCloser(db, blobs, zone)
        self._clock = clock.Steps()
        self._workers = [
            Worker("sealing", self._seal, poll),
            Worker("publishing", lambda: work.run(self._publisher.turn), poll),
            Worker("manifests", manifests.turn, _SWEEP_SECONDS),
            Worker("months", lambda: work.run(months.turn), _SWEEP_SECONDS),
            Worker("sweeping", self._sweep, _SWEEP_SECONDS),
            Worker("disk", self._look_at_the_disk, _DISK_SECONDS),
            Worker("clock", self._look_at_the_clock, _CLOCK_SECONDS),
        ]
        core.wakes.sealing = self._workers[0].wake
        core.wakes.delivery = self._workers[1].wake
        if self._mail is not None:
            self._workers.append(Worker("mail", self._mail.turn, poll))
            core.wakes.mail = self._workers[-1].wake
        max_bytes = int(settings.intake.max_megabytes * 1_000_000)
        spools = AccountSpools(uploads, settings.spool.batch, max_bytes, core.intake, blobs, work)
        self._account_worker = Worker("accounts", spools.turn, settings.spool.scan_seconds)
        self._workers.append(self._account_worker)
        if settings.spool.enabled:
            spool = Spool(settings.spool, max_bytes, core.intake, blobs, work)
            self._workers.append(Worker("spool", spool.turn, settings.spool.scan_seconds))
        directory = settings.store.directory
        sftp = SftpServer(settings.sftp, self._folders, core.folder, directory, settings.sftp_legacy)
        self._sftp = sftp if settings.sftp.enabled else None
        ftps = FtpsServer(
            settings.ftps, settings.sftp, self._folders, core.folder, sftp.limits, sftp.penalties, sftp.failures
        )
        self._ftps = ftps if settings.ftps.enabled else None

    def _wake_accounts(self) -> None:
        """From any thread: the billing system has completed an upload."""
        self._loop.call_soon_threadsafe(self._account_worker.wake)

    async def run(self, ready: Callable[[Addresses], None]) -> None:
        """Until stopped."""
        self._loop = asyncio.get_running_loop()
        await self._core.work.run(self._take_over)
        app = create_app(replace(parts_of(self._core), last_act=self._folders.last_act))
        tcp = httpd.bind_loopback(self._core.settings.http.listen)
        unix = httpd.bind_unix(state.admin_socket(self._core.settings.store))
        http = httpd.HttpServer(app, [tcp, unix])
        sftp = await self._sftp.start() if self._sftp else []
        ftps = await self._ftps.start() if self._ftps else []
        first, legacy = [*sftp, None, None][:2]
        host_key = self._sftp.host_key if self._sftp else ""
        addresses = Addresses(tcp.getsockname()[:2], first, legacy, host_key, tuple(ftps))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(http.serve(), name="http")
            for worker in self._workers:
                tasks.create_task(worker.run(self._stop), name=worker.name)
            tasks.create_task(self._watchdog(), name="watchdog")
            tasks.create_task(self._start_processes(), name="processes")
            gc.freeze()  # what was loaded stays: collections need not walk it
            logger.info("daemon.ready", http=addresses.http, sftp=addresses.sftp, ftps=addresses.ftps)
            notify.notify("READY=1")
            ready(addresses)
            await self._stop.wait()
            notify.notify("STOPPING=1")
            logger.info("daemon.stopping")
            await self._drain()
            http.stop()

    def _take_over(self) -> None:
        """What a process that was killed left open: its leases are over, since only one process may write here."""
        if self._core.db.is_sqlite:
            delivery = self._core.settings.delivery
            while self._core.db.write(lambda tx: outbox.expire_leases(tx, delivery, all_of_them=True)):
                pass
            self._folders.take_over()

    async def _start_processes(self) -> None:
        """Before a document needs them: loading their libraries takes a second or two."""
        await asyncio.gather(self._core.readers.start(), self._core.sealers.start())

    async def _drain(self) -> None:
        grace = self._core.settings.sftp.grace_seconds
        waits: list[Awaitable[None]] = []
        if self._sftp is not None:
            waits.append(self._sftp.drain(grace))
        if self._ftps is not None:
            waits.append(self._ftps.drain(grace))
        if self._mail is not None:
            waits.append(self._mail.drain(grace))
        await asyncio.gather(*waits)
        if self._sftp is not None:
            await self._sftp.close()
        if self._ftps is not None:
            await self._ftps.close()
        self._folders.close()

    async def _look_at_the_disk(self) -> int:
        await self._core.work.run(self._core.reserve.look)
        return 0

    async def _look_at_the_clock(self) -> int:
        if abs(seconds := self._clock.look()) > _CLOCK_STEP:
            logger.error("clock.stepped", seconds=round(seconds))
        return 0

    async def _seal(self) -> int:
        """Below the floor sealing pauses: what is left is for receipts, reads and log-ins."""
        return 0 if self._core.reserve.is_low else await self._sealer.turn()

    async def _sweep(self) -> int:
        work, settings = self._core.work, self._core.settings
        if await work.run(plan.plan_late, self._core.db):
            self._core.wakes.all()
        await work.run(self._folders.return_renamed, clock.now())
        await work.run(self._folders.expire, clock.now())
        await work.run(self._folders.forget_failures, clock.now(), settings.sftp.failures_kept_days)
        await work.run(self._folders.expire_uploads, clock.now())
        await work.run(forget_messages, self._core.db, self._core.blobs, settings.mail.keep_message_days)
        return 0

    async def _watchdog(self) -> None:
        """Tell systemd that the loop turns; it ends us when we stop telling.

        A database that is away is no reason to be ended: open files are served on, and a restart would not mend it.
        """
        seconds = notify.watchdog_seconds()
        while seconds is not None and not self._stop.is_set():
            notify.notify("WATCHDOG=1")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), seconds)

    def reload(self, path: Path) -> None:
        """SIGHUP: apply what can be; name what needs a restart."""
        notify.reloading()
        try:
            settings = config.load(path)
            log.configure(settings.log)
            waiting = [
                name
                for name in Settings.model_fields
                if name != "log" and getattr(settings, name) != getattr(self._core.settings, name)
            ]
            logger.info("daemon.reloaded", needs_restart=waiting)
        except ConfigError as error:
            logger.error("daemon.reload_refused", cause=error.message)
        notify.notify("READY=1")


def _mail_worker(core: Core) -> MailWorker | None:
    """The mail worker; None when mail cannot be signed: then deliveries stay planned, and the rest goes on."""
    if not core.settings.mail.enabled:
        return None
    try:
        return _signed_mail(core)
    except ConfigError as error:
        logger.error("mail.off", cause=error.message)
        return None


def _signed_mail(core: Core) -> MailWorker:
    mail = core.settings.mail
    if mail.certificate is None:
        raise ConfigError("[mail.certificate] is needed to send mail", where="[mail.certificate]")
    key = load_pkcs12(mail.certificate, mail.password_file)
    smime.check_certificate(key, mail.from_address)
    if mail.verp_secret_file is None:
        raise ConfigError("[mail.verp_secret_file] is needed to send mail: `gateway init` makes one", where="[mail]")
    secret = read_private(mail.verp_secret_file)
    if len(secret) < 32:
        raise ConfigError("[mail.verp_secret_file] must hold at least 32 random bytes", where="[mail.verp_secret_file]")
    relay = Relay.load(mail)
    settings = core.settings
    return MailWorker(mail, settings.delivery, settings.issuer, core.db, core.blobs, core.mail, key, secret, relay)
