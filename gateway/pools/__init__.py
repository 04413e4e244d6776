"""Named, bounded pools: threads for what blocks, worker processes for what computes or may be hostile.

A full queue answers Unavailable at once ("try again"); nothing waits unbounded. A worker process that dies or
passes its deadline takes only its own task with it (WorkerDied) and is replaced. A worker that cannot begin, or a
pool that is closed, says nothing about a task: Unavailable.

threads.py; processes.py: the pool of workers; channel.py: the daemon's end of one; begin.py: what runs in it.
"""

from .processes import WorkerDied, WorkerProcesses
from .threads import ThreadPool

__all__ = ["ThreadPool", "WorkerDied", "WorkerProcesses"]
