"""Runs one function over many tasks in processes of their own and hands the results back in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from pipeline.errors import DataError

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 4  # tasks in flight per process: enough to keep it busy, few enough to bound the memory
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def in_order(
    work: Callable[[Task], Result], tasks: Sequence[Task], processes: int
) -> Iterator[Iterator[Result]]:
    """Yields an iterator over work(task) for each task, in order; with one process, computed in this one.

    No process is left when the block ends, so that nothing is written after it. The processes are fresh, as
    forking one with threads is unsafe; they end with this one even if it is killed. The block raises what
    `work` raises, and DataError if a process dies.
    """
    if processes == 1:
        yield map(work, tasks)
        return
    with _single_threaded_children():
        pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _start_worker)
        try:
            yield _windowed(pool, work, tasks, AHEAD * processes)
        except BrokenProcessPool:
            raise DataError(
                f"one of {processes} processes died, most likely for lack of memory; use fewer (--processes)"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _windowed(
    pool: ProcessPoolExecutor, work: Callable[[Task], Result], tasks: Sequence[Task], window: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    for task in tasks:
        waiting.append(pool.submit(work, task))
        if len(waiting) >= window:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Processes started inside use one thread each; numpy reads these variables when it is imported."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _start_worker() -> None:
    """Ends at Ctrl-C without a traceback, and with the parent however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
