import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.paths import StudyPaths
from slurm.glance import jobs_at
from tests.slurm.launched import launched_into
from tune.journal import Journal
from tune.request import Request
from tune.status import main
from tune.study import Study

OpenStudy = Callable[..., tuple[Study, Journal]]


@pytest.fixture(autouse=True)
def without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    jobs_at.cache_clear()


@pytest.fixture
def runs(open_study: OpenStudy, paths: StudyPaths) -> Path:
    """A study that was interrupted: one trial stopped, one failed, one under way."""
    study, journal = open_study()
    Request("s", "smoke", "d", None, study.experiment).write(paths)
    for number in range(3):
        assert study.next_trial() is not None
        study.started(number, 1, "gr1", "17", 42)
    study.epoch(2, 1, 1, 0.003, 60.0)
    study.epoch(0, 1, 1, 0.004, 60.0)
    study.ended(1, 1, "failed", "DIVERGED", "Traceback (most recent call last)\nthe loss is nan")
    journal.close()
    return paths.root.parents[1]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    main(list(arguments))
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_all_studies_at_a_glance(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heading, row = shown(capsys, "--runs", str(runs))
    assert heading.split() == ["study", "driver", "trials", "now", "best", "trial"]
    assert " ".join(row.split()) == "s not running 2/6 1 failed, 1 interrupted, 1 stopped 3.000 mm 2"


def test_a_studys_trials_best_first_within_eighty_columns(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(capsys, "--runs", str(runs), "--study", "s")
    assert lines[0] == "study s, not running, profile smoke"
    assert [line.split()[:2] for line in lines[2:]] == [
        ["2", "interrupted"],
        ["0", "stopped"],
        ["1", "failed"],
    ]
    assert max(map(len, lines)) <= 80


def test_a_study_with_a_budget_tells_what_it_has_used(
    runs: Path, paths: StudyPaths, open_study: OpenStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    study, journal = open_study(gpu_hours=2.0)
    journal.close()
    Request("s", "smoke", "d", None, study.experiment).write(paths)
    assert shown(capsys, "--runs", str(runs), "--study", "s")[0].endswith(", 0 of 2 GPU hours")


def test_a_running_study_names_its_driver(
    runs: Path, open_study: OpenStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    _, journal = open_study()
    lines = shown(capsys, "--runs", str(runs), "--study", "s")
    journal.close()
    assert ", running on " in lines[0]
    assert lines[2].split()[:2] == ["2", "running"]


def test_a_trial_with_everything_that_is_known(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(shown(capsys, "--runs", str(runs), "--study", "s", "--trial", "0"))
    assert "trial 0 of study s: stopped" in text
    assert "train.lr = 0.001" in text
    assert "gr1, process 42, Slurm job 17" in text
    assert "epoch    1  4.000 mm" in text
    failed = "\n".join(shown(capsys, "--runs", str(runs), "--study", "s", "--trial", "1"))
    assert "failed DIVERGED" in failed
    assert failed.endswith("the loss is nan")


SCHEDULER = {"name": "multistep", "factor": 0.5, "milestones": [0.15, 0.3, 0.45], "warmup": 0.05}


def test_long_values_stand_below_their_trial_and_schedules_go_by_name(
    paths: StudyPaths, open_study: OpenStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {
        "train.lr": {"log_uniform": (1e-4, 1e-2)},
        "train.weight_decay": {"log_uniform": (1e-6, 1e-2)},
        "train.scheduler": {"choice": (SCHEDULER,)},
    }
    study, journal = open_study(space=space)
    Request("s", "smoke", "d", None, study.experiment).write(paths)
    for _ in range(2):
        assert study.next_trial() is not None
    journal.close()
    runs = str(paths.root.parents[1])
    lines = shown(capsys, "--runs", runs, "--study", "s")
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[1:4]] == ["trial", "0", "lr"]
    assert "scheduler multistep x0.5 @ 0.15 0.3 0.45 warmup 0.05" in " ".join("\n".join(lines).split())
    one = shown(capsys, "--runs", runs, "--study", "s", "--trial", "1")
    assert "  train.scheduler = multistep x0.5 @ 0.15 0.3 0.45 warmup 0.05" in one
    assert max(len(line) for line in one if not line.startswith("folder")) <= 80


SQUEUE = """\
123|RUNNING|None|gr1|1795671412|1795757812|fingertip-search-s
124|RUNNING|None|gr2|1795671412|1795757812|fingertip-worker-s
126|PENDING|Priority||N/A|N/A|fingertip-worker-s
7|RUNNING|None|gr3|1795671412|1795757812|fingertip-worker-other
"""


def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    jobs_at.cache_clear()
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "bin" / "squeue").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "bin" / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")


def test_the_queue_tells_why_a_study_waits_or_nothing_at_all(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "queue").write_text(SQUEUE)
    queue(tmp_path, monkeypatch, f"cat {tmp_path}/queue")
    lines = shown(capsys, "--runs", str(runs), "--study", "s")
    assert " ".join(" ".join(lines[1:3]).split()) == (
        "Slurm: driver 123 running on gr1; workers 1 running, 1 pending (Priority: others are before it)"
    )
    assert max(map(len, lines)) <= 80
    main(["--runs", str(runs), "--study", "s", "--json"])
    told = json.loads(capsys.readouterr().out)["s"]["slurm"]
    assert [job["job"] for job in told] == ["123", "124", "126"]
    assert told[2] == {"job": "126", "kind": "worker", "state": "PENDING", "node": "", "reason": "Priority"}
    queue(tmp_path, monkeypatch, "echo down >&2; exit 1")
    assert shown(capsys, "--runs", str(runs), "--study", "s")[1].startswith("trial")
    main(["--runs", str(runs), "--study", "s", "--json"])
    assert json.loads(capsys.readouterr().out)["s"]["slurm"] is None


def test_a_study_whose_driver_still_waits_is_not_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "queue").write_text("5|PENDING|Resources||N/A|N/A|fingertip-search-new\n")
    queue(tmp_path, monkeypatch, f"cat {tmp_path}/queue")
    assert shown(capsys, "--runs", str(tmp_path), "--study", "new") == [
        "study new, not begun yet",
        "Slurm: driver 5 pending (Resources: it is next; what it needs is in use)",
    ]
    with pytest.raises(PipelineError, match="no study 'other'"):
        main(["--runs", str(tmp_path), "--study", "other"])


def test_a_study_that_is_driven_shows_its_queue_among_all(
    runs: Path,
    open_study: OpenStudy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "queue").write_text(SQUEUE)
    queue(tmp_path, monkeypatch, f"cat {tmp_path}/queue")
    assert not any("Slurm" in line for line in shown(capsys, "--runs", str(runs)))
    _, journal = open_study()
    assert "study s, Slurm: driver 123 running on gr1;" in "\n".join(shown(capsys, "--runs", str(runs)))
    journal.close()


def test_drivers_that_wait_are_shown_among_all_before_their_studies_have_begun(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that were launched into these runs."""
    rows = [f"{job}|PENDING|Priority||N/A|N/A|fingertip-search-{name}\n" for job, name in QUEUED.items()]
    (tmp_path / "queue").write_text("".join(rows))
    queue(tmp_path, monkeypatch, f"cat {tmp_path}/queue")
    launched_into(runs, "5", name="new")
    launched_into(runs, "6", name="s")
    lines = shown(capsys, "--runs", str(runs))
    assert lines[1].split()[0] == "s"
    assert " ".join(" ".join(lines[2:]).split()) == (
        "study new, Slurm: driver 5 pending (Priority: others are before it) "
        "study s, Slurm: driver 6 pending (Priority: others are before it)"
    )
    assert max(map(len, lines)) <= 80
    main(["--runs", str(runs), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert sorted(told) == ["new", "s"]
    assert (told["new"]["driven"], told["new"]["trials"]) == (False, [])
    assert [told[name]["slurm"][0]["job"] for name in ("new", "s")] == ["5", "6"]
    launched_into(tmp_path / "empty", "7", name="other")
    assert shown(capsys, "--runs", str(tmp_path / "empty")) == [
        "study other, Slurm: driver 7 pending (Priority: others are before it)"
    ]


QUEUED = {"5": "new", "6": "s", "7": "other"}


def test_json_says_the_same(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--runs", str(runs), "--json"])
    study = json.loads(capsys.readouterr().out)["s"]
    assert study["driven"] is False
    assert [trial["status"] for trial in study["trials"]] == ["stopped", "failed", "running"]
    assert study["trials"][2]["epochs"] == {"1": 0.003}


def test_watching_a_study_that_nobody_runs_shows_it_once(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "not running" in "\n".join(shown(capsys, "--runs", str(runs), "--study", "s", "--watch"))


def test_an_empty_workspace_says_how_to_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "python -m tune.search --model NAME" in " ".join(shown(capsys, "--runs", str(tmp_path)))


def test_a_study_that_cannot_be_read_hides_no_other(
    runs: Path, paths: StudyPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = paths.root.with_name("damaged")
    damaged.mkdir()
    (damaged / "study.yaml").write_text("study: damaged\n")
    (damaged / "journal.jsonl").write_text("what is this\n")
    text = " ".join("\n".join(shown(capsys, "--runs", str(runs))).split())
    assert "damaged not running - unreadable:" in text
    assert "s not running 2/6" in text
    main(["--runs", str(runs), "--json"])
    studies = json.loads(capsys.readouterr().out)
    assert "is not a JSON object" in studies["damaged"]["error"]
    assert len(studies["s"]["trials"]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--study", "x"], "no study 'x' in .*; known: s"),
        (["--study", "s", "--trial", "9"], "study s has no trial 9; it has 0 to 2"),
        (["--trial", "1"], "--trial needs --study"),
        (["--watch", "--json"], "--watch is for people"),
    ],
)
def test_what_does_not_exist_is_refused(runs: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        main(["--runs", str(runs), *arguments])
