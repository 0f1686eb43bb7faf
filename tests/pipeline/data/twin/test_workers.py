import os

import pytest

from pipeline.data.twin.workers import THREAD_VARIABLES, in_order
from pipeline.errors import DataError


def square(number):
    return number * number


def threads(_):
    return [os.environ.get(name) for name in THREAD_VARIABLES]


def die(_):
    os._exit(9)


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_tasks(processes):
    assert list(in_order(square, range(30), processes)) == [number**2 for number in range(30)]


def test_workers_use_one_thread_each_and_the_caller_keeps_its_own_setting(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert next(iter(in_order(threads, range(2), 2))) == ["1", "1", "1"]
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in os.environ


def test_a_process_that_dies_is_an_error_and_not_a_wait():
    with pytest.raises(DataError, match="one of 2 processes died.*use fewer"):
        list(in_order(die, range(4), 2))
