"""A driver killed with -9 at twenty random moments; Ray and its workers are real, training is a stand-in."""

import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.config import SearchConfig
from pipeline.paths import Workspace
from pipeline.records import Record, Revived, read_journal
from pipeline.trials import fold
from tests.cluster.processes import Process, identify, trees_below
from tests.tune.drivers import start
from tests.tune.soundness import assert_reproduced, assert_sound, decided
from tune.ranking import most_trusted

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]

KILLS, AT_WORK = 20, 12  # at least, and of these while a trial was running
EARLY = 0.25  # of all kills: at some moment after the start, mostly before there is a worker
EARLY_S, DELAY_S, RECORDS = (
    (0.1, 5.0),
    (0.0, 0.05),
    (2, 10),
)  # the others: after so many records, and a moment
TRIALS = 10  # so many that the study is not over by then, so few that some are on their second chance
PAUSE_S = 0.05
POLL_S = 0.01
START_UP_S = 120.0
AGENTS_LEAVE_S = 120.0  # Ray's workers end at once with a killed driver, two idle helpers after a minute
OWN_COLUMNS = ["started", "finished"]  # of leaderboard.csv


@dataclass
class Search:
    """One study in a folder of its own."""

    runs: Path
    data: Path
    trials: int
    workers: int
    seen: list[Process] = field(default_factory=list)  # all that its killed drivers had started

    @property
    def records(self) -> list[Record]:
        return read_journal(Workspace(self.runs).study("s").journal)

    @property
    def settings(self) -> SearchConfig:
        return SearchConfig(trials=self.trials, epochs=9, grace=1, reduction=3, share=1)

    def start(self) -> "subprocess.Popen[str]":
        return start(self.runs, self.data, self.trials, PAUSE_S, WORKERS=str(self.workers), SHARE="1")

    def finish(self) -> None:
        driver = self.start()
        output = driver.communicate()[0]
        assert driver.returncode == 0, output

    def kill(self, draw: random.Random, early: bool) -> bool:
        """Starts a driver and kills it; whether a trial was running that it had begun."""
        before = self.records
        driver = self.start()
        if early:
            time.sleep(draw.uniform(*EARLY_S))
        else:
            self._wait_for_work(len(before), 1)
        self.seen += trees_below([identify(driver.pid)])
        if not early:
            self._wait_for_work(len(before), draw.randint(*RECORDS))
            time.sleep(draw.uniform(*DELAY_S))
        driver.kill()
        output = driver.communicate()[0]
        after = self.records
        assert after[: len(before)] == before
        assert driver.returncode == -9, f"the study was over too soon: {output}"
        assert_reproduced(after, self.settings)
        return self._at_work(len(before))

    def _at_work(self, before: int) -> bool:
        """Whether a trial runs that was started after so many records."""
        records = self.records
        running = (trial for trial in fold(records).values() if trial.status == "running")
        return any(trial.attempts[-1] in records[before:] for trial in running)

    def _wait_for_work(self, before: int, more: int) -> None:
        deadline = time.monotonic() + START_UP_S
        while len(self.records) < before + more or not self._at_work(before):
            assert time.monotonic() < deadline, "the search did not get going"
            time.sleep(POLL_S)

    def leaderboard(self) -> list[dict[str, Any]]:
        """Its rows, without what no two runs share."""
        frame = pd.read_csv(Workspace(self.runs).leaderboard, dtype=str, keep_default_na=False)
        return [dict(row) for _, row in frame.drop(columns=OWN_COLUMNS).iterrows()]


def kill_again_and_again(search: Search, seed: int) -> None:
    draw = random.Random(seed)
    kills = at_work = 0
    while kills < KILLS or at_work < AT_WORK:
        at_work += search.kill(draw, early=draw.random() < EARLY)
        kills += 1
    assert any(isinstance(record, Revived) for record in search.records)
    print(f"{kills} kills, {at_work} while a trial was running; {len(search.records)} records by then")


@pytest.fixture(scope="module")
def searches() -> Iterator[list[Search]]:
    """Those whose drivers were killed; in the end nothing of them is left."""
    killed: list[Search] = []
    yield killed
    deadline = time.monotonic() + AGENTS_LEAVE_S
    while alive := [process for search in killed for process in search.seen if process.is_alive()]:
        assert time.monotonic() < deadline, f"still there: {alive}"
        time.sleep(0.2)


def test_with_one_worker_twenty_kills_change_nothing(
    tmp_path: Path, data: Path, searches: list[Search]
) -> None:
    undisturbed, killed = (Search(tmp_path / name, data, TRIALS, workers=1) for name in ("whole", "killed"))
    searches.append(killed)
    kill_again_and_again(killed, seed=1)
    killed.finish()
    undisturbed.finish()
    assert_sound(killed.records, killed.settings)
    assert decided(killed.records) == decided(undisturbed.records)
    assert killed.leaderboard() == undisturbed.leaderboard()


def test_with_four_workers_the_journal_tells_every_decision_after_twenty_kills(
    tmp_path: Path, data: Path, searches: list[Search]
) -> None:
    search = Search(tmp_path, data, TRIALS, workers=4)
    searches.append(search)
    kill_again_and_again(search, seed=4)
    search.finish()
    records = search.records
    assert_sound(records, search.settings)
    best = most_trusted(fold(records))
    assert best is not None
    assert search.leaderboard()[0]["trial"] == str(best.number)
