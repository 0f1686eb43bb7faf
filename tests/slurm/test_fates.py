"""What ended a lost worker, and how long the search waits to learn it."""

from dataclasses import replace

import pytest

from slurm.fates import KEEP_S, SHARE, Fates
from tests.slurm.madeup import MadeUpSlurm, job
from tune.place import Fate


def fates(slurm: MadeUpSlurm) -> Fates:
    return Fates(slurm, clock=lambda: slurm.now)


@pytest.mark.parametrize(
    ("state", "reason", "counted", "message"),
    [
        ("PREEMPTED", "PREEMPTED", False, "its Slurm job 1 was preempted"),
        ("TIMEOUT", "TIMEOUT", False, "its Slurm job 1 reached its time limit"),
        ("DEADLINE", "TIMEOUT", False, "its Slurm job 1 reached its deadline"),
        ("NODE_FAIL", "NODE_FAIL", False, "its Slurm job 1 lost its node"),
        ("CANCELLED", "STOPPED_BY_USER", False, "its Slurm job 1 was cancelled"),
        ("COMPLETED", "NODE_FAIL", False, "its Slurm job 1 ended"),
        ("OUT_OF_MEMORY", "HOST_OOM", True, "its Slurm job 1 used up its memory; raise gpu.memory"),
        ("FAILED", "NODE_FAIL", True, ""),
    ],
)
@pytest.mark.parametrize("forgotten", [False, True])
def test_it_tells_how_a_job_ended(
    state: str, reason: str, counted: bool, message: str, forgotten: bool
) -> None:
    ended = {"1": job("1", state)}
    fate = fates(MadeUpSlurm(past=ended) if forgotten else MadeUpSlurm(queue=ended)).of("1")
    assert (fate.reason, fate.counted) == (reason, counted)
    assert fate.message.startswith(message)
    assert bool(fate.message) == bool(message)


@pytest.mark.parametrize(
    ("why", "reason", "counted"),
    [
        ("None", "NODE_FAIL", False),
        ("TimeLimit", "TIMEOUT", False),
        ("NodeDown", "NODE_FAIL", False),
        ("OutOfMemory", "HOST_OOM", True),
        ("NonZeroExitCode", "NODE_FAIL", True),
    ],
)
def test_a_job_that_is_being_tidied_up_after_may_tell_already(why: str, reason: str, counted: bool) -> None:
    fate = fates(MadeUpSlurm(queue={"1": replace(job("1", "COMPLETING"), reason=why)})).of("1")
    assert (fate.reason, fate.counted) == (reason, counted)


def test_accounting_may_know_how_it_ended_first() -> None:
    slurm = MadeUpSlurm(queue={"1": job("1", "COMPLETING")}, past={"1": job("1", "PREEMPTED")})
    assert fates(slurm).of("1").reason == "PREEMPTED"


def test_a_running_job_explains_nothing() -> None:
    assert fates(MadeUpSlurm(queue={"1": job("1")})).of("1") == Fate()


def test_a_job_that_waits_again_was_taken_from_its_trial() -> None:
    fate = fates(MadeUpSlurm(queue={"1": job("1", "PENDING")})).of("1")
    assert (fate.reason, fate.counted) == ("PREEMPTED", False)


def test_an_end_that_slurm_does_not_tell_blames_no_trial() -> None:
    fate = fates(MadeUpSlurm()).of("1")
    assert (fate.reason, fate.counted) == ("NODE_FAIL", False)
    assert "Slurm does not tell how it ended" in fate.message


def test_trials_lost_together_cost_one_question_and_with_one_job_no_second() -> None:
    slurm = MadeUpSlurm(queue={number: job(number, "NODE_FAIL") for number in "123"})
    asked = fates(slurm)
    told = {asked.of(number).message for number in "123"}
    assert (len(told), slurm.questions) == (3, 1)
    slurm.now += 1000
    slurm.queue.clear()
    assert asked.of("1").message == "its Slurm job 1 lost its node"
    assert slurm.questions == 1


def test_a_job_that_runs_on_is_looked_at_again() -> None:
    slurm = MadeUpSlurm(queue={"1": job("1")})
    asked = fates(slurm)
    assert asked.of("1").counted
    slurm.end("1", "PREEMPTED")
    slurm.now += KEEP_S
    assert asked.of("1").reason == "PREEMPTED"


@pytest.mark.parametrize("silent", [True, False])
def test_a_slow_slurm_is_waited_for_once_and_nobody_is_blamed_meanwhile(silent: bool) -> None:
    jobs = {str(number): job(str(number)) for number in range(100)}
    slurm = MadeUpSlurm(queue=jobs, silent=silent, takes_s=5.0)
    asked = fates(slurm)
    asked.of("0")
    for number in range(1, 100):
        slurm.now += 0.3
        assert asked.of(str(number)).counted == (number <= 3 and not silent), "the answer is old by then"
    assert slurm.questions == 1
    slurm.now += 5.0 / SHARE
    asked.of("1")
    assert slurm.questions == 2


def test_jobs_that_slurm_has_forgotten_do_not_add_up() -> None:
    slurm = MadeUpSlurm(takes_s=5.0)
    asked = fates(slurm)
    assert not any(asked.of(str(number)).counted for number in range(100))
    assert slurm.questions <= 3
