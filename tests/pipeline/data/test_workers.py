import operator
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.data.workers import THREAD_VARIABLES, in_order
from pipeline.errors import DataError
from pipeline.paths import repository


def square(number):
    return number * number


def threads(_):
    return [os.environ.get(name) for name in THREAD_VARIABLES]


def die(_):
    os._exit(9)


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_tasks(processes):
    with in_order(square, range(30), processes) as results:
        assert list(results) == [number**2 for number in range(30)]


def test_workers_use_one_thread_each_and_the_caller_keeps_its_own_setting(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with in_order(threads, range(2), 2) as results:
        assert list(results) == [["1", "1", "1"]] * 2
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in os.environ


def test_a_process_that_dies_is_an_error_and_not_a_wait():
    with pytest.raises(DataError, match="one of 2 processes died.*use fewer"):
        with in_order(die, range(4), 2) as results:
            list(results)


def running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


def test_no_process_is_left_when_the_block_ends():
    with pytest.raises(RuntimeError, match="enough"):
        with in_order(operator.call, [os.getpid] * 8, 2) as results:
            worker = next(results)
            assert running(worker)
            raise RuntimeError("enough")
    assert not running(worker)


PRINT_A_WORKER_AND_WAIT = """
import operator, os, time
from functools import partial
from pipeline.data.workers import in_order

with in_order(operator.call, [os.getpid, *[partial(time.sleep, 60)] * 3], 2) as results:
    print(next(results), flush=True)
    next(results)
"""


def test_the_processes_end_when_the_parent_is_killed():
    command = [sys.executable, "-c", PRINT_A_WORKER_AND_WAIT]
    with subprocess.Popen(command, cwd=repository(), stdout=subprocess.PIPE) as parent:
        worker = int(parent.stdout.readline())
        assert running(worker)
        parent.kill()
    give_up = time.monotonic() + 10
    while running(worker):
        assert time.monotonic() < give_up, f"{worker} outlived its parent"
        time.sleep(0.02)
