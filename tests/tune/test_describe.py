"""What `tune.status --trial` tells."""

import json
import re
from collections.abc import Callable

import pytest

from pipeline.paths import StudyPaths
from pipeline.train import Report
from tune.journal import Journal
from tune.request import Request
from tune.session import MAX_MESSAGE, Session
from tune.status import main
from tune.study import Study

OpenStudy = Callable[..., tuple[Study, Journal]]


def test_a_trials_losses_stand_below_their_attempts_and_its_traceback_is_whole(
    open_study: OpenStudy, capsys: pytest.CaptureFixture[str], paths: StudyPaths
) -> None:
    study, journal = open_study(trials=1)
    Request("s", "smoke", "d", None, study.experiment).write(paths)
    lost = [("was preempted", "PREEMPTED", False), ("used up its memory", "HOST_OOM", True)]
    for attempt, (message, reason, counted) in enumerate(lost, start=1):
        assert study.next_trial() is not None
        study.started(0, attempt, "gr1", str(16 + attempt), 42)
        study.lost(0, attempt, message, reason, counted)
    assert study.next_trial() is not None
    study.started(0, 3, "gr2", "19", 43)
    study.ended(0, 3, *failure_of(deep))
    journal.close()
    message = study.trials[0].message
    assert 7000 < len(message) <= MAX_MESSAGE
    runs = str(paths.root.parents[1])
    main(["--runs", runs, "--study", "s", "--trial", "0"])
    text = capsys.readouterr().out.rstrip()
    assert text.startswith("trial 0 of study s: failed USER_ERROR")
    assert text.endswith(message.rstrip())
    after = [line for line in text.split(message[:80])[0].splitlines() if "attempt" in line or "lost" in line]
    assert [re.sub(r"\d{4}-.* UTC", "TIME", line) for line in after] == [
        "attempt 1: TIME, gr1, process 42, Slurm job 17",
        "  lost TIME, PREEMPTED, not held against it: was preempted",
        "attempt 2: TIME, gr1, process 42, Slurm job 18",
        "  lost TIME, HOST_OOM: used up its memory",
        "attempt 3: TIME, gr2, process 43, Slurm job 19",
    ]
    main(["--runs", runs, "--study", "s", "--trial", "0", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["message"] == message
    assert [loss["reason"] for loss in told["lost"]] == ["PREEMPTED", "HOST_OOM"]
    assert told["losses"] == 1


def deep(report: Report, depth: int = 0) -> None:
    """Fails with a traceback of thousands of characters, in lines of more than a hundred."""
    if depth == 60:
        raise RuntimeError("no such layer: " + "x" * 7000)
    deep(report, depth + 1)


def failure_of(train: Callable[[Report], None]) -> tuple[str, str, str]:
    """What a worker tells of a training function that fails."""
    result = Session(train).next_result()
    return result["status"], result["reason"], result["message"]
