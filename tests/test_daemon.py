"""The daemon's own decisions: what pauses while the disk is below its floor, what is told of the clock."""

import asyncio
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.daemon import _Daemon, open_core
from gateway.domain.states import DocumentState
from gateway.errors import Unavailable
from gateway.store import state
from tests import journey


def test_below_the_floor_nothing_is_taken_in_and_nothing_is_sealed(tmp_path: Path) -> None:
    """What is left is for receipts, reads and log-ins; what waits goes on by itself once there is space."""
    with journey.opened(tmp_path, intake={"workers": 1}, seal={"workers": 1}, mail={"enabled": False}) as gate:
        daemon = _Daemon(gate.core, asyncio.Event())
        document = gate.submit(journey.invoice(journey.number())).document_id
        gate.core.reserve.is_low = True
        assert gate.run(daemon._seal()) == 0
        with pytest.raises(Unavailable, match="disk"):
            gate.submit(journey.invoice(journey.number()))
        assert gate.document(document).state is DocumentState.RECEIVED
        gate.run(daemon._look_at_the_disk())
        assert gate.run(daemon._seal()) == 1
        assert gate.document(document).state is DocumentState.SEALED


def test_a_clock_that_was_set_by_more_than_a_minute_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seals and names carry its time: whoever runs the gateway must know."""
    with journey.opened(tmp_path, intake={"workers": 1}, seal={"workers": 1}, mail={"enabled": False}) as gate:
        daemon, real = _Daemon(gate.core, asyncio.Event()), time.time
        with capture_logs() as logs:
            for ahead in (0, 50, -50, -50):  # set by +50, -100 and 0
                monkeypatch.setattr(time, "time", lambda ahead=ahead: real() + ahead)
                gate.run(daemon._look_at_the_clock())
    assert [(one["event"], one["log_level"], one["seconds"]) for one in logs] == [("clock.stepped", "error", -100)]


def test_a_command_that_still_holds_the_lock_is_waited_for(tmp_path: Path) -> None:
    """Started one after the other, a command and the daemon meet in the state directory for a moment."""
    settings = journey.settings_for(tmp_path, None)
    state.prepare(settings.store)
    command = state.StateLock(settings.store)
    command.acquire()

    async def start() -> None:
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            opening = tasks.create_task(opened())
            await asyncio.sleep(0.3)
            assert not opening.done()
            command.release()

    async def opened() -> None:
        async with open_core(settings):
            pass

    asyncio.run(start())
