"""The pool's decisions, on a Slurm that keeps its jobs in a dictionary."""

from dataclasses import replace

import pytest

from slurm.errors import SlurmError
from slurm.pool import ABSENT_S, MAX_REFUSED, MAX_STILLBORN, REST_S
from tests.slurm.madeup import MadeUpSlurm, job
from tune.place import Demand


def wants(trials: int, *busy: str) -> Demand:
    return Demand(trials, frozenset(busy))


def test_it_submits_a_worker_a_trial_up_to_the_cap_and_counts_pending_jobs() -> None:
    slurm = MadeUpSlurm()
    pool = slurm.pool()
    for trials, expected in ((2, 2), (2, 2), (7, 3), (7, 3)):
        pool.step(wants(trials), ())
        assert len(slurm.queue) == expected


def test_what_is_too_much_leaves_pending_first_then_idle_never_busy() -> None:
    slurm = MadeUpSlurm()
    pool = slurm.pool()
    pool.step(wants(3), ())
    slurm.start("1", "2")
    pool.step(wants(3, "1"), ("1", "2"))
    pool.step(wants(1, "1"), ("1", "2"))
    assert sorted(slurm.queue) == ["1", "2"]
    slurm.now = 9.0
    pool.step(wants(1, "1"), ("1", "2"))
    assert sorted(slurm.queue) == ["1", "2"]
    slurm.now = 10.0
    pool.step(wants(1, "1"), ("1", "2"))
    assert sorted(slurm.queue) == ["1"]
    assert "worker 2 was idle for 10 s and leaves" in slurm.told


def test_an_idle_worker_stays_while_trials_are_left_for_it() -> None:
    slurm = MadeUpSlurm()
    pool = slurm.pool()
    pool.step(wants(2), ())
    slurm.start("1", "2")
    for now in (0.0, 100.0):
        slurm.now = now
        pool.step(wants(2, "1"), ("1", "2"))
    assert sorted(slurm.queue) == ["1", "2"]


def test_a_query_that_fails_changes_nothing_and_is_told_once() -> None:
    slurm = MadeUpSlurm()
    pool = slurm.pool()
    pool.step(wants(2), ())
    slurm.silent, told = True, len(slurm.told)
    for _ in range(3):
        pool.step(wants(0), ())
    assert (len(slurm.queue), len(pool.workers)) == (2, 2)
    assert slurm.told[told:] == [
        "Slurm does not answer; the workers stay as they are: squeue: connection refused"
    ]


def test_it_tells_why_no_worker_runs_when_that_changes() -> None:
    slurm = MadeUpSlurm()
    pool = slurm.pool(workers=1)
    pool.step(wants(2), ())
    for reason in ("None", "Priority", "Priority", "Resources"):
        slurm.queue["1"] = replace(job("1", "PENDING"), reason=reason)
        pool.step(wants(2), ())
    slurm.start("1")
    pool.step(wants(2), ())
    assert [line for line in slurm.told if "waiting" in line] == [
        "waiting for Slurm to start 1 of its jobs (Priority: others are before it)",
        "waiting for Slurm to start 1 of its jobs (Resources: it is next; what it needs is in use)",
    ]


def test_a_worker_that_ended_is_replaced() -> None:
    slurm = MadeUpSlurm()
    pool = slurm.pool(workers=1)
    pool.step(wants(2), ())
    slurm.start("1")
    pool.step(wants(2), ("1",))
    slurm.end("1", "PREEMPTED")
    pool.step(wants(2), ())
    assert list(slurm.queue) == ["2"]
    assert "worker 1 was preempted" in slurm.told


def test_a_completing_job_works_no_more() -> None:
    slurm = MadeUpSlurm()
    pool = slurm.pool(workers=1)
    pool.step(wants(2), ())
    slurm.queue["1"] = job("1", "COMPLETING")
    pool.step(wants(2), ())
    assert sorted(slurm.queue) == ["1", "2"]


def test_workers_of_an_earlier_driver_are_taken_over_and_others_left_alone() -> None:
    slurm = MadeUpSlurm(queue={"7": job("7"), "8": job("8", name="fingertip-worker-other")}, submitted=10)
    pool = slurm.pool(workers=2)
    pool.step(wants(5), ("7",))
    assert sorted(pool.workers) == ["11", "7"]
    pool.end()
    assert list(slurm.queue) == ["8"]


def test_workers_that_fail_before_they_join_end_the_search() -> None:
    slurm = MadeUpSlurm()
    pool = slurm.pool(workers=1)
    pool.step(wants(2), ())
    for number in range(1, MAX_STILLBORN):
        slurm.end(str(number), "FAILED")
        pool.step(wants(2), ())
    slurm.end(str(MAX_STILLBORN), "FAILED")
    with pytest.raises(SlurmError, match=r"3 worker jobs in a row failed .* last one 3 \(FAILED\).*doctor"):
        pool.step(wants(2), ())


def test_one_bad_node_does_not_end_a_search_in_which_others_work() -> None:
    slurm = MadeUpSlurm()
    pool = slurm.pool(workers=2)
    pool.step(wants(9), ())
    slurm.start("1")
    for _ in range(MAX_STILLBORN):
        pool.step(wants(9, "1"), ("1",))
        (bad,) = set(slurm.queue) - {"1"}
        slurm.end(bad, "FAILED")
    pool.step(wants(9, "1"), ("1",))
    assert list(slurm.queue) == ["1"], "it rests"
    slurm.now = REST_S
    pool.step(wants(9, "1"), ("1",))
    assert len(slurm.queue) == 2


def test_an_end_that_slurm_does_not_tell_is_not_taken_for_a_failure() -> None:
    slurm = MadeUpSlurm()
    pool = slurm.pool(workers=1)
    for _ in range(2 * MAX_STILLBORN):
        pool.step(wants(2), ())
        slurm.queue.clear()
    assert "worker 1 is gone; Slurm does not tell how it ended" in slurm.told


def test_an_answer_that_leaves_a_job_out_changes_nothing() -> None:
    slurm = MadeUpSlurm()
    pool = slurm.pool(workers=1)
    pool.step(wants(2), ())
    slurm.past["1"] = slurm.queue.pop("1")
    pool.step(wants(2), ())
    assert (list(pool.workers), slurm.submitted) == (["1"], 1)


def test_a_worker_that_runs_but_does_not_join_is_cancelled_and_counted() -> None:
    slurm = MadeUpSlurm()
    pool = slurm.pool(workers=1, rejoin_s=60)
    for number in range(1, MAX_STILLBORN):
        pool.step(wants(2), ())
        slurm.start(str(number))
        pool.step(wants(2), ())
        slurm.now += 60 + ABSENT_S
        pool.step(wants(2), ())
    assert slurm.past["1"].state == "CANCELLED"
    pool.step(wants(2), ())
    slurm.start(str(MAX_STILLBORN))
    pool.step(wants(2), ())
    slurm.now += 60 + ABSENT_S
    with pytest.raises(SlurmError, match="could not reach the driver"):
        pool.step(wants(2), ())


def test_a_full_disk_is_a_refusal_that_is_tried_again() -> None:
    slurm = MadeUpSlurm()
    pool = slurm.pool(workers=1)
    submit, pool.submit = pool.submit, full_disk
    pool.step(wants(2), ())
    assert "No space left" in slurm.told[-1]
    pool.submit = submit
    pool.step(wants(2), ())
    assert len(slurm.queue) == 1


def full_disk() -> str:
    raise OSError(28, "No space left on device")


def test_one_that_joined_forgives_those_that_did_not() -> None:
    slurm = MadeUpSlurm()
    pool = slurm.pool(workers=1)
    pool.step(wants(2), ())
    for number in range(1, 3 * MAX_STILLBORN):
        slurm.start(str(number))
        pool.step(wants(2), (str(number),) if number % 2 else ())
        slurm.end(str(number), "FAILED")
        pool.step(wants(2), ())
    assert len(slurm.queue) == 1


def test_a_refused_submission_is_tried_again_and_ends_the_search_only_without_workers() -> None:
    slurm = MadeUpSlurm()
    pool = slurm.pool(workers=2)
    slurm.queue["1"], slurm.submitted, slurm.refuses = job("1"), 1, True
    for _ in range(2 * MAX_REFUSED):
        pool.step(wants(2), ("1",))
    slurm.end("1", "TIMEOUT")
    with pytest.raises(SlurmError, match="QOSMaxSubmitJobPerUserLimit"):
        pool.step(wants(2), ())
