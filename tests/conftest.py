"""What the tests share: an ordinary user, a database of each kind, bytes, samples, processes.

Started as root, pytest starts itself again as an ordinary user, without root's rights.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from gateway.demo.unprivileged import reexec_if_root
from gateway.store import migrations
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database, sqlite_url
from tests import cluster, peers

# Two busy cores: an example's time says nothing. A failure prints what repeats it.
hypothesis.settings.register_profile(
    "gateway", deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("gateway")


def pytest_configure(config: pytest.Config) -> None:
    if os.geteuid() == 0:
        capture = config.pluginmanager.getplugin("capturemanager")
        if capture is not None:
            capture.stop_global_capturing()
    # Root's folders are not that user's to write in: no cache, and hypothesis's files go to the temporary directory.
    reexec_if_root([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *config.invocation_params.args])
    if not os.access(config.rootpath, os.W_OK):
        set_hypothesis_home_dir(Path(tempfile.gettempdir(), "hypothesis"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("peer"):
        for name in mark.args:
            peers.require(name)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[cluster.Cluster]:
    """A PostgreSQL server of this session (one for each xdist worker)."""
    peers.require("postgres")
    with cluster.running(peers.program("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "gateway.db"
    migrations.upgrade(sqlite_url(path))
    return path


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh database with the newest schema, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "gateway.db"
        shutil.copy(request.getfixturevalue("_sqlite_template"), path)
        yield sqlite_url(path)
        return
    server: cluster.Cluster = request.getfixturevalue("postgresql")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An open, fresh database, once on SQLite and once on PostgreSQL."""
    opened = Database.open(database_url)
    yield opened
    opened.close()


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    """An empty store of bytes."""
    return LocalBlobs(tmp_path / "blobs")


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of real documents that TEST_SAMPLES names."""
    named = os.environ.get("TEST_SAMPLES", "")
    if not named or not os.path.isdir(named):
        pytest.skip("real documents: TEST_SAMPLES names no folder here")
    return Path(named)


class Processes:
    """Starts programs, and ends those and no others."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[Any]] = []

    def start(self, *command: str | Path, **options: Any) -> "subprocess.Popen[Any]":
        """Start a program; `options` are Popen's. It is ended with the test, if it has not ended before."""
        process: subprocess.Popen[Any] = subprocess.Popen([str(part) for part in command], **options)
        self._started.append(process)
        return process

    def end(self) -> None:
        """SIGTERM, and SIGKILL for what has not ended 10 seconds later."""
        for process in self._started:
            process.terminate()
        for process in self._started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Start programs with `processes.start(…)`; they end with the test."""
    started = Processes()
    yield started
    started.end()
