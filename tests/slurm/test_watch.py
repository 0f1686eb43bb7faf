"""What is told of this project's jobs, and what `stop` cancels, in front of a stand-in for Slurm."""

import json
import re
from pathlib import Path

import pytest

from slurm.errors import SlurmError
from slurm.launch import main
from slurm.watch import why
from tests.slurm.launched import TRAIN, last

QUEUE = """\
99|COMPLETED|None|gr1|1780000000|1780000100|fingertip-final-resnet50
101_0|RUNNING|None|gr1|1780000000|1780086400|fingertip-train-convnext
101_1|PENDING|Priority||N/A|N/A|fingertip-train-convnext
102|RUNNING|None|gr2|1780000000|1780172800|fingertip-search-resnet50
103|PENDING|Resources||N/A|N/A|fingertip-worker-resnet50
104|RUNNING|None|gr2|1780000000|1780086400|somebodys-notebook
"""


def test_status_tells_what_each_job_does_and_why_it_waits(slurm_commands, tmp_path: Path, capsys) -> None:
    slurm_commands.answer("squeue", QUEUE)
    main(["status", "--runs", str(tmp_path)])
    elapsed = re.compile(r"(-?\d+ days?, )?[0-9:]+ of ")
    lines = [" ".join(elapsed.sub("", line).split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "102 running drives the search resnet50 2 days, 0:00:00 on gr2",
        "103 pending runs trials of resnet50 waits (Resources: it is next; what it needs is in use)",
        "101_0 running trains convnext 1 day, 0:00:00 on gr1",
        "101_1 pending trains convnext waits (Priority: others are before it)",
    ]


def test_status_for_programs_names_the_folder_of_a_launch(slurm_commands, tmp_path: Path, capsys) -> None:
    main([*TRAIN, "--model", "convnext", "--runs", str(tmp_path)])
    slurm_commands.answer("squeue", QUEUE.replace("101_0", "100_0"))
    capsys.readouterr()
    main(["status", "--json", "--runs", str(tmp_path)])
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["100_0"]["folder"] == str(last(tmp_path))
    assert rows["100_0"]["does"] == "trains convnext, seed 0"
    assert rows["102"]["folder"] is None
    assert rows["103"]["waits"].startswith("Resources: ")


def test_a_queue_that_does_not_answer_is_not_an_empty_one(slurm_commands, tmp_path: Path) -> None:
    slurm_commands.refuse("squeue", "slurm_load_jobs error: Unable to contact slurm controller")
    with pytest.raises(
        SlurmError, match="Unable to contact slurm controller; nothing is known of the jobs now"
    ):
        main(["status", "--runs", str(tmp_path)])


def test_stop_cancels_a_study_with_its_driver_first(slurm_commands, tmp_path: Path, capsys) -> None:
    slurm_commands.answer("squeue", QUEUE)
    main(["stop", "resnet50", "--runs", str(tmp_path)])
    assert slurm_commands.asked("scancel") == [["102", "103"]]
    assert "cancelled 102: drives the search resnet50" in capsys.readouterr().out


def test_stop_takes_the_workers_that_a_driver_submits_while_it_ends(
    slurm_commands, tmp_path: Path, capsys
) -> None:
    slurm_commands.answer("squeue", QUEUE)
    worker = next(line for line in QUEUE.splitlines(keepends=True) if line.startswith("103|"))
    slurm_commands.answer("late", worker.replace("103|", "110|", 1))
    main(["stop", "resnet50", "--runs", str(tmp_path)])
    assert slurm_commands.asked("scancel") == [["102", "103"], ["110"]]
    assert "cancelled 110: runs trials of resnet50" in capsys.readouterr().out


def test_stopping_a_driver_without_a_study_takes_nothing_else(slurm_commands, tmp_path: Path, capsys) -> None:
    """As `sbatch slurm/search.sbatch` submits it; the others' names tell no model or study either."""
    row = "RUNNING|None|gr1|1780000000|1780086400|fingertip"
    workers = f"104|{row}-worker-resnet50-0a1b2c\n105|{row}-worker-all-0a1b2c\n"
    slurm_commands.answer("squeue", f"101|{row}-final\n102|{row}-search\n103_0|{row}-train\n{workers}")
    main(["stop", "102", "--runs", str(tmp_path)])
    assert [words for words in slurm_commands.asked("scancel") if words] == [["102"]]
    assert capsys.readouterr().out.splitlines() == [
        "cancelled 102: drives a search",
        "which study 102 drives is not known: its workers, if it has any, leave by themselves after the "
        "profile's pool.rejoin_s; to stop them now: python -m slurm.launch stop STUDY",
        "a running job saves before it ends; launching it again resumes",
    ]


def test_stopping_a_driver_by_its_number_takes_its_workers_and_no_run_of_that_name(
    slurm_commands, tmp_path: Path
) -> None:
    row = "RUNNING|None|gr1|1780000000|1780086400|fingertip"
    named = [
        f"101|{row}-final-resnet50",
        f"102|{row}-search-resnet50",
        f"103|{row}-worker-resnet50-0a1b2c",
        f"104|{row}-worker-resnet50-2-0a1b2c",
    ]
    slurm_commands.answer("squeue", "".join(f"{line}\n" for line in named))
    main(["stop", "102", "--runs", str(tmp_path)])
    assert slurm_commands.asked("scancel") == [["102"], ["103"]]


def test_what_a_job_without_a_name_of_its_own_does(slurm_commands, tmp_path: Path, capsys) -> None:
    kinds = ("final", "search", "train", "worker-resnet50-0a1b2c", "probe")
    row = "RUNNING|None|gr1|1780000000|1780086400|fingertip"
    slurm_commands.answer("squeue", "".join(f"{n}|{row}-{kind}\n" for n, kind in enumerate(kinds)))
    main(["status", "--json", "--runs", str(tmp_path)])
    assert [found["does"] for found in json.loads(capsys.readouterr().out)] == [
        *("drives a search", "runs trials of resnet50", "trains several models", "final run"),
        "looks at a node for slurm.doctor",
    ]


def test_stop_touches_no_job_of_another_project(slurm_commands, tmp_path: Path) -> None:
    slurm_commands.answer("squeue", QUEUE)
    with pytest.raises(SlurmError) as caught:
        main(["stop", "104", "--runs", str(tmp_path)])
    assert str(caught.value) == (
        "'104' names no queued or running job of this project (there: 102, 103, 101_0, 101_1); "
        "see python -m slurm.launch status"
    )
    main(["stop", "all", "--runs", str(tmp_path)])
    assert slurm_commands.asked("scancel") == [["102", "103", "101_0", "101_1"]]


def test_a_new_job_has_no_reason_yet() -> None:
    assert why("None") == "Slurm has not looked at it yet"
    assert why("(Priority)") == "(Priority): others are before it"
    assert why("Licenses") == "Licenses"
