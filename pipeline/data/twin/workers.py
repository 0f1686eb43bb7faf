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


def in_order(work: Callable[[Task], Result], tasks: Sequence[Task], processes: int) -> Iterator[Result]:
    """Yields work(task) for each task, in order; with one process, in this one.

    Raises DataError if a process dies, and whatever `work` raises.
    """
    if processes == 1:
        yield from map(work, tasks)
        return
    with _single_threaded_children():
        pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _start_worker)
        try:
            yield from _windowed(pool, work, tasks, AHEAD * processes)
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
    """Leaves Ctrl-C to the parent, and ends with it however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
