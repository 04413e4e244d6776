"""Pools: bounded, and whatever happens to one task happens to that task only."""

import asyncio
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from gateway.access import Actor
from gateway.errors import Refused, Unavailable
from gateway.pools import ThreadPool, WorkerDied, WorkerProcesses
from gateway.pools import begin as begin_module
from tests.conftest import Processes

# --- what runs in the workers: importable, as the real calls are ---

_started: list[object] = []


def begin(*arguments: object) -> None:
    _started[:] = arguments


def started_with() -> tuple[int, list[object]]:
    return os.getpid(), _started


def sleep(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    os._exit(3)


def refuse() -> None:
    raise Refused("not a PDF", code="not_a_pdf", page=3)


def stumble() -> None:
    raise KeyError("a defect of ours")


def say_from_now_on(said: bytes) -> None:
    """Take the worker over, as a document might: whatever it is called with, these are the bytes that it sends."""
    begin_module.message = lambda content: said  # looked up before this call: its own answer goes out


def eat_memory() -> int:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000, 2_000_000_000))
    return len(bytearray(10_000_000_000))


def odd_result() -> object:
    return lambda: None


def ignores_interrupts() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def loaded(module: str) -> bool:
    return module in sys.modules


def fail_to_begin() -> None:
    raise RuntimeError("no key")


def size_of(content: bytes) -> int:
    return len(content)


@contextlib.asynccontextmanager
async def _workers(
    count: int = 1, deadline: float = 20, initializer: Callable[..., None] = begin, arguments: tuple[Any, ...] = ()
) -> AsyncIterator[WorkerProcesses]:
    workers = WorkerProcesses("test", count, deadline, initializer, arguments)
    try:
        yield workers
    finally:
        workers.close()


@contextlib.asynccontextmanager
async def _threads(threads: int = 1, queue: int = 10) -> AsyncIterator[ThreadPool]:
    pool = ThreadPool("test", threads, queue)
    try:
        yield pool
    finally:
        pool.close()


def run(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 60))


def _ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


# --- threads ---


def test_a_call_runs_in_a_thread_of_the_pools_name_and_answers() -> None:
    """So that a stack dump says which door is stuck; an error is the call's own."""

    async def scene() -> None:
        async with _threads() as pool:
            name = await pool.run(lambda suffix: threading.current_thread().name + suffix, "!")
            assert name.startswith("test")
            assert name.endswith("!")
            with pytest.raises(Refused):
                await pool.run(refuse)
            assert pool.pending == 0

    run(scene)


def test_a_full_queue_says_try_again_at_once() -> None:
    """Nothing waits unbounded: one slow client must not fill the memory."""

    async def scene() -> None:
        async with _threads(threads=1, queue=2) as pool:
            leave_ = threading.Event()
            waiting = [asyncio.ensure_future(pool.run(leave_.wait, 20)) for _ in range(3)]
            await asyncio.sleep(0)
            assert pool.pending == 3
            with pytest.raises(Unavailable):
                await pool.run(time.monotonic)
            leave_.set()
            assert await asyncio.gather(*waiting) == [True] * 3
            await asyncio.sleep(0)
            assert pool.pending == 0
            assert await pool.run(lambda: "free again") == "free again"

    run(scene)


def test_a_call_that_began_is_finished_though_its_caller_went_away() -> None:
    """A client that hangs up must not leave half a change; and its place stays taken until then."""

    async def scene() -> None:
        async with _threads() as pool:
            entered, leave_, done = threading.Event(), threading.Event(), threading.Event()

            def work() -> None:
                entered.set()
                leave_.wait(20)
                done.set()
                raise ValueError("nobody hears it")

            task = asyncio.ensure_future(pool.run(work))
            await asyncio.to_thread(entered.wait, 20)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pool.pending == 1
            leave_.set()
            await _until(lambda: pool.pending == 0)
            assert done.is_set()

    run(scene)


def test_at_a_stop_running_calls_finish_and_waiting_ones_are_told() -> None:
    """Whoever waits gets 'try again', not a cancellation that it never asked for; later calls too."""

    async def scene() -> None:
        pool = ThreadPool("test", 1, 5)
        entered = threading.Event()

        def work() -> str:
            entered.set()
            time.sleep(0.1)
            return "finished"

        running = asyncio.ensure_future(pool.run(work))
        waiting = asyncio.ensure_future(pool.run(work))
        await asyncio.to_thread(entered.wait, 20)
        pool.close()
        assert await running == "finished"
        with pytest.raises(Unavailable):
            await waiting
        with pytest.raises(Unavailable):
            await pool.run(work)
        assert pool.pending == 0

    run(scene)


# --- worker processes ---


def test_a_worker_is_started_once_with_its_arguments_and_kept() -> None:
    """Keys are loaded and XSLTs compiled once a process, not once a document."""

    async def scene() -> None:
        async with _workers(initializer=begin, arguments=("a", 3)) as workers:
            answers = [await workers.run(started_with) for _ in range(3)]
            assert [started for _, started in answers] == [["a", 3]] * 3
            assert {pid for pid, _ in answers} == {answers[0][0]}
            assert answers[0][0] != os.getpid()

    run(scene)


def test_as_many_run_at_once_as_there_are_workers() -> None:
    """And one more waits for a free one."""

    async def scene() -> None:
        async with _workers(count=2) as workers:
            pids = await asyncio.gather(*(workers.run(sleep, 0.2) for _ in range(3)))
            assert len(set(pids)) == 2

    run(scene)


@pytest.mark.parametrize("end", [die, leave])
def test_a_worker_that_dies_takes_only_its_own_task_with_it(end: Callable[[], None]) -> None:
    """A crashing parser costs one document; the others, and the next one, go on."""

    async def scene() -> None:
        async with _workers(count=2) as workers:
            slow = asyncio.ensure_future(workers.run(sleep, 0.5))
            await asyncio.sleep(0.05)
            with pytest.raises(WorkerDied):
                await workers.run(end)
            assert await slow
            assert len({await workers.run(sleep, 0) for _ in range(4)}) <= 2

    run(scene)


def test_what_was_sent_ahead_to_a_worker_that_dies_is_done_by_another() -> None:
    """Only the call that was being done is guilty; those behind it in its socket are nobody's loss."""

    async def scene() -> None:
        async with _workers() as workers:
            pid = await workers.run(sleep, 0)
            calls: list[asyncio.Future[Any]] = [workers.submit(sleep, 0.01), workers.submit(die)]
            calls += [workers.submit(sleep, 0.01) for _ in range(6)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert answers[0] == pid
            assert isinstance(answers[1], WorkerDied)
            assert len(set(answers[2:])) == 1
            assert answers[2] not in (pid, None)

    run(scene)


def test_the_deadline_is_each_call_s_own() -> None:
    """What waits in a worker's socket behind slow ones has not begun, and is not late; what is late goes alone."""

    async def scene() -> None:
        async with _workers(deadline=10) as workers:
            await workers.run(sleep, 0)
            workers._deadline = 1
            slow = [workers.submit(sleep, 0.4) for _ in range(4)]
            assert len(set(await asyncio.gather(*slow))) == 1, "1.6 s in all"
            late, behind = workers.submit(sleep, 30), workers.submit(sleep, 0)
            with pytest.raises(WorkerDied, match="1 s"):
                await late
            assert await behind

    run(scene)


def test_a_worker_that_ended_while_it_was_idle_costs_no_call() -> None:
    """The kernel ends the largest process when memory is short, whatever it does."""

    async def scene() -> None:
        async with _workers() as workers:
            pid = await workers.run(sleep, 0)
            os.kill(pid, signal.SIGKILL)
            await _until(lambda: _ended(pid))
            assert await workers.run(sleep, 0) != pid

    run(scene)


def test_workers_can_be_started_before_there_is_anything_to_do() -> None:
    """So that the first documents of the morning do not wait for libraries to load."""

    async def scene() -> None:
        async with _workers(count=2) as workers:
            await workers.start()
            assert len(workers._channels) == 2
            assert len(set(await asyncio.gather(*(workers.run(sleep, 0.2) for _ in range(2))))) == 2

    run(scene)


def test_a_call_larger_than_a_socket_s_buffer_stops_nothing() -> None:
    """The loop serves transfers meanwhile: it must not wait until a busy worker reads."""

    async def scene() -> None:
        async with _workers() as workers:
            await workers.run(sleep, 0)
            busy = workers.submit(sleep, 0.5)
            began = time.monotonic()
            large = [workers.submit(size_of, bytes(5_000_000)) for _ in range(3)]
            assert time.monotonic() - began < 0.4
            assert await asyncio.gather(*large) == [5_000_000] * 3
            assert busy.done()

    run(scene)


def test_a_pool_outlives_the_loop_that_used_it() -> None:
    """Commands run one loop after another."""
    workers = WorkerProcesses("test", 1, 20, begin)
    try:
        pids = {asyncio.run(asyncio.wait_for(workers.run(sleep, 0), 20)) for _ in range(3)}
    finally:
        workers.close()
    assert len(pids) == 1


def test_past_its_deadline_a_worker_is_ended() -> None:
    """A document made to loop for ever must not take the worker, or the core, with it."""

    async def scene() -> None:
        async with _workers(deadline=10) as workers:
            pid = await workers.run(sleep, 0)
            workers._deadline = 0.2
            with pytest.raises(WorkerDied, match=r"0\.2 s"):
                await workers.run(sleep, 30)
            await _until(lambda: _ended(pid))
            workers._deadline = 10
            assert await workers.run(sleep, 0) != pid

    run(scene)


def test_a_caller_that_goes_away_ends_what_it_asked_for() -> None:
    """At a stop nobody waits for a document of thirty seconds; the next task gets a fresh worker."""

    async def scene() -> None:
        async with _workers() as workers:
            pid = await workers.run(sleep, 0)
            task = asyncio.ensure_future(workers.run(sleep, 30))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await _until(lambda: _ended(pid))
            assert await workers.run(sleep, 0) != pid

    run(scene)


def test_our_own_errors_cross_the_border_whole() -> None:
    """With code and facts, and the worker stays."""

    async def scene() -> None:
        async with _workers() as workers:
            pid = await workers.run(sleep, 0)
            with pytest.raises(Refused) as refused:
                await workers.run(refuse)
            assert (refused.value.message, refused.value.code, refused.value.facts) == (
                "not a PDF",
                "not_a_pdf",
                {"page": 3},
            )
            assert await workers.run(sleep, 0) == pid

    run(scene)


@pytest.mark.parametrize("call", [stumble, eat_memory, odd_result])
def test_an_error_nobody_foresaw_costs_that_document_only(call: Callable[[], object]) -> None:
    """A defect, no memory left, a result that cannot be sent: said without the defect's own text."""

    async def scene() -> None:
        async with _workers() as workers:
            pid = await workers.run(sleep, 0)
            with pytest.raises(WorkerDied) as died:
                await workers.run(call)
            assert "defect of ours" not in died.value.message
            assert await workers.run(sleep, 0) == pid

    run(scene)


class _Command:
    def __init__(self, *words: str) -> None:
        self._words = words

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return subprocess.Popen, (self._words,)


_NO_LONGER_ASKS = b"\x80\x04cgateway.access\nActor\nN}X\x07\x00\x00\x00requirecgateway.errors\nRefused\ns\x86b."
_RUNS_US = b"\x80\x04cgateway.__main__\nmain\n."


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"+",
        b"-",
        b'+"text"',
        b'-["SystemExit", "1", "code", {}]',
        b'-["Refused", "text", "code", {"message": "twice"}]',
        b'-["Refused", "text", "code", 1]',
        b"-" + b"[" * 100_000,
        b"+" + b"[" * 100_000,
        _NO_LONGER_ASKS,
        _RUNS_US,
    ],
)
def test_an_answer_holds_values_only(answer: bytes) -> None:
    """A pickle could run a command, and setting an attribute of a class of ours already lets every right be had."""
    require = Actor.require

    async def scene() -> None:
        async with _workers() as workers:
            pid = await workers.run(sleep, 0)
            await workers.run(say_from_now_on, begin_module.message(answer))
            with pytest.raises(WorkerDied):
                await workers.run(sleep, 0)
            assert Actor.require is require and workers._channels and not _ended(pid)

    run(scene)


def test_no_answer_runs_a_command(tmp_path: Path) -> None:
    """Nothing that a worker says is unpickled."""
    path = tmp_path / "made"

    async def scene() -> None:
        async with _workers() as workers:
            for sign in (b"", b"+", b"-"):
                answer = sign + pickle.dumps(_Command("mkdir", str(path)))
                await workers.run(say_from_now_on, begin_module.message(answer))
                with pytest.raises(WorkerDied):
                    await workers.run(sleep, 0)
                workers._channels[0].end()
                workers._channels.clear()

    run(scene)
    time.sleep(0.2)
    assert not path.exists()


@pytest.mark.parametrize("said", [2 * begin_module.message(b"+1"), begin_module.LENGTH.pack(0xFFFFFFFF)])
def test_a_worker_that_says_too_much_is_ended(said: bytes) -> None:
    """Answers that nobody asked for would be taken for those of the next documents; a large one would fill memory."""

    async def scene() -> None:
        async with _workers() as workers:
            pid = await workers.run(sleep, 0)
            await workers.run(say_from_now_on, said)
            with contextlib.suppress(WorkerDied):
                await workers.run(sleep, 0)
            assert await workers.run(sleep, 0) > 1
            await _until(lambda: _ended(pid))

    run(scene)


def test_a_stop_is_no_verdict_on_the_documents_in_work() -> None:
    """They would go to quarantine as if they had killed their worker; they are done again after the next start."""

    async def scene() -> None:
        workers = WorkerProcesses("test", 1, 20, begin)
        pid = await workers.run(sleep, 0)
        running = asyncio.ensure_future(workers.run(sleep, 30))
        waiting = asyncio.ensure_future(workers.run(sleep, 0))
        await asyncio.sleep(0.1)
        workers.close()
        for task in (running, waiting):
            with pytest.raises(Unavailable):
                await task
        with pytest.raises(Unavailable):
            await workers.run(sleep, 0)
        await _until(lambda: _ended(pid))
        assert workers._channels == [], "none was started in place of an ended one"
        workers.close()

    run(scene)


def test_workers_that_cannot_begin_blame_no_document() -> None:
    """A key that cannot be loaded would send every document into quarantine."""

    async def scene() -> None:
        async with _workers(initializer=fail_to_begin) as workers:
            for _ in range(2):
                with pytest.raises(Unavailable, match="start"):
                    await workers.run(sleep, 0)

    run(scene)


def test_ctrl_c_is_the_daemons() -> None:
    """A terminal sends it to the whole group; the daemon stops its workers in order."""

    async def scene() -> None:
        async with _workers() as workers:
            assert await workers.run(ignores_interrupts)

    run(scene)


def test_workers_end_with_the_daemon_however_it_ends(processes: Processes, tmp_path: Path) -> None:
    """kill -9 of the daemon must not leave processes behind that hold a key in memory."""
    script = (
        "import asyncio, sys, time\n"
        "from tests import test_pools\n"
        "from gateway.pools import WorkerProcesses\n"
        "async def main():\n"
        "    workers = WorkerProcesses('test', 2, 60, test_pools.begin)\n"
        "    print(*await asyncio.gather(*(workers.run(test_pools.sleep, 0.3) for _ in range(2))), flush=True)\n"
        "    await workers.run(test_pools.sleep, 50)\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    path = tmp_path / "daemon.py"
    path.write_text(script)
    root = str(Path(__file__).parents[1])
    told = tmp_path / "told"
    with told.open("wb") as output:
        daemon = processes.start(sys.executable, path, stdout=output, env=os.environ | {"PYTHONPATH": root})
    deadline = time.monotonic() + 60
    while not told.read_text().endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pids = [int(pid) for pid in told.read_text().split()]
    assert len(set(pids)) == 2
    assert not any(_ended(pid) for pid in pids)
    daemon.kill()
    daemon.wait(10)
    while not all(_ended(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)
