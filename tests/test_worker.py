"""A worker's loop: it works while there is work, hears its wake-up, and finds work that nobody told it of."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from gateway import worker as module
from gateway.errors import Refused, Unavailable
from gateway.worker import Worker

LONG = 30.0  # a poll that no test waits for


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 20))


class Work:
    """What there is to do; each turn takes one thing of it. An error among the things is raised."""

    def __init__(self, *things: object) -> None:
        self.things = list(things)
        self.turns = 0
        self.idle = asyncio.Event()

    async def turn(self) -> int:
        self.turns += 1
        await asyncio.sleep(0)
        if not self.things:
            self.idle.set()
            return 0
        thing = self.things.pop(0)
        if isinstance(thing, Exception):
            raise thing
        return 1


async def during(worker: Worker, act: Callable[[], Awaitable[None]]) -> None:
    """Run the worker while `act` runs, then stop it."""
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    await act()
    stop.set()
    worker.wake()
    await task


def test_it_takes_turn_after_turn_while_there_is_work() -> None:
    async def scene() -> None:
        work = Work(1, 2, 3)

        async def act() -> None:
            await work.idle.wait()

        await during(Worker("w", work.turn, LONG), act)
        assert work.things == [] and work.turns == 4

    run(scene())


def test_a_wake_up_ends_the_sleep() -> None:
    async def scene() -> None:
        work = Work()
        worker = Worker("w", work.turn, LONG)

        async def act() -> None:
            await work.idle.wait()
            work.idle.clear()
            work.things.append(1)
            worker.wake()
            await work.idle.wait()

        await during(worker, act)
        assert work.things == []

    run(scene())


def test_a_wake_up_during_a_turn_is_not_lost() -> None:
    """The turn had looked before the work came."""

    async def scene() -> None:
        work = Work()
        worker = Worker("w", work.turn, LONG)
        arrived = False

        async def looking() -> int:
            nonlocal arrived
            found = await work.turn()
            if not arrived:
                arrived = True
                work.things.append(1)
                worker.wake()
                work.idle.clear()
            return found

        worker._turn = looking

        async def act() -> None:
            while not (arrived and work.idle.is_set()):
                await asyncio.sleep(0.01)

        await during(worker, act)
        assert work.things == []

    run(scene())


def test_a_lost_wake_up_is_found_by_the_poll() -> None:
    """The hint may be lost; the work is not."""

    async def scene() -> None:
        work = Work()

        async def act() -> None:
            await work.idle.wait()
            work.things.append(1)
            while work.things:
                await asyncio.sleep(0.01)

        await during(Worker("w", work.turn, 0.05), act)

    run(scene())


def test_it_sleeps_when_there_is_nothing() -> None:
    """It does not ask the database in a circle."""

    async def scene() -> None:
        work = Work()

        async def act() -> None:
            await asyncio.sleep(0.3)

        await during(Worker("w", work.turn, 0.1), act)
        assert work.turns <= 5

    run(scene())


def test_what_is_unavailable_is_tried_again_after_growing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most five seconds apart, for as long as it takes: an outage of hours ends like one of seconds."""

    async def scene() -> None:
        waits: list[float] = []
        work = Work(*(Unavailable("the database does not answer") for _ in range(3000)))
        worker = Worker("w", work.turn, LONG)

        async def note(stop: asyncio.Event, seconds: float) -> None:
            waits.append(seconds)
            await asyncio.sleep(0)

        monkeypatch.setattr(worker, "_sleep", note)

        async def act() -> None:
            await work.idle.wait()

        await during(worker, act)
        assert waits[:4] == [0.4, 0.8, 1.6, 3.2]
        assert set(waits[4:3000]) == {module._LONGEST_WAIT}
        assert work.things == []

    run(scene())


def test_after_a_success_the_waits_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        waits: list[float] = []
        away = Unavailable("away")
        work = Work(away, away, 1, away)
        worker = Worker("w", work.turn, LONG)

        async def note(stop: asyncio.Event, seconds: float) -> None:
            waits.append(seconds)
            await asyncio.sleep(0)

        monkeypatch.setattr(worker, "_sleep", note)

        async def act() -> None:
            await work.idle.wait()

        await during(worker, act)
        assert waits[:3] == [0.4, 0.8, 0.4]

    run(scene())


def test_any_other_error_ends_the_worker() -> None:
    """And by it the daemon, which is started anew: a defect is not slept over."""

    async def scene() -> None:
        for error in (Refused("no"), RuntimeError("a defect")):
            with pytest.raises(type(error)):
                await Worker("w", Work(error).turn, LONG).run(asyncio.Event())

    run(scene())


def test_a_turn_that_began_is_finished_before_it_stops() -> None:
    async def scene() -> None:
        stop, finished = asyncio.Event(), False

        async def turn() -> int:
            nonlocal finished
            stop.set()
            await asyncio.sleep(0.05)
            finished = True
            return 1

        await Worker("w", turn, LONG).run(stop)
        assert finished

    run(scene())


def test_stopping_ends_the_sleep_at_once() -> None:
    async def scene() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(Worker("w", Work().turn, LONG).run(stop))
        await asyncio.sleep(0.05)
        stop.set()
        await asyncio.wait_for(task, 2)

    run(scene())
