"""What is told of this project's jobs, and what `stop` cancels, in front of a stand-in for Slurm."""

import json
import re
from pathlib import Path

import pytest

from slurm.errors import SlurmError
from slurm.launch import main
from slurm.watch import why
from tests.slurm.launched import TRAIN, last, launched_into, worker_of

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
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    unfolded = re.sub(r"\n {16}", " ", told)
    lines = [" ".join(elapsed.sub("", line).split()) for line in unfolded.splitlines()]
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


def queue_of(runs: Path) -> str:
    """QUEUE, its jobs launched into `runs`."""
    launched_into(runs, "101", name="convnext")
    launched_into(runs, "102")
    return QUEUE.replace("fingertip-worker-resnet50", worker_of(runs))


def test_stop_cancels_a_study_with_its_driver_first(slurm_commands, tmp_path: Path, capsys) -> None:
    slurm_commands.answer("squeue", queue_of(tmp_path))
    main(["stop", "resnet50", "--runs", str(tmp_path)])
    assert slurm_commands.asked("scancel") == [["102", "103"]]
    assert "cancelled 102: drives the search resnet50" in capsys.readouterr().out


def test_stop_takes_the_workers_that_a_driver_submits_while_it_ends(
    slurm_commands, tmp_path: Path, capsys
) -> None:
    queue = queue_of(tmp_path)
    slurm_commands.answer("squeue", queue)
    worker = next(line for line in queue.splitlines(keepends=True) if line.startswith("103|"))
    slurm_commands.answer("late", worker.replace("103|", "110|", 1))
    main(["stop", "resnet50", "--runs", str(tmp_path)])
    assert slurm_commands.asked("scancel") == [["102", "103"], ["110"]]
    assert "cancelled 110: runs trials of resnet50" in capsys.readouterr().out


def test_names_stop_what_was_launched_into_these_runs_and_numbers_anything_of_ours(
    slurm_commands, tmp_path: Path
) -> None:
    """Two folders have a study of the same name."""
    here, there = tmp_path / "here", tmp_path / "there"
    row = "RUNNING|None|gr1|1780000000|1780086400"
    for runs, driver in ((here, "101"), (there, "103")):
        launched_into(runs, driver)
    queue = [
        *(f"101|{row}|fingertip-search-resnet50", f"102|{row}|{worker_of(here)}"),
        *(f"103|{row}|fingertip-search-resnet50", f"104|{row}|{worker_of(there)}"),
    ]
    slurm_commands.answer("squeue", "".join(f"{line}\n" for line in queue))
    with pytest.raises(
        SlurmError, match=r"'all' names no job that was launched into .*\(101, 103, 102, 104\)"
    ):
        main(["stop", "all", "--runs", str(tmp_path / "nowhere")])
    main(["stop", "resnet50", "--runs", str(here)])
    assert [words for words in slurm_commands.asked("scancel") if words] == [["101", "102"]]
    main(["stop", "103", "--runs", str(here)])
    assert [words for words in slurm_commands.asked("scancel") if words] == [["101", "102"], ["103"]]
    main(["stop", "all", "--runs", str(there)])
    assert [words for words in slurm_commands.asked("scancel") if words][2:] == [["104"]]


def test_stopping_a_driver_without_a_study_takes_nothing_else(slurm_commands, tmp_path: Path, capsys) -> None:
    """As `sbatch slurm/search.sbatch` submits it; the others' names tell no model or study either."""
    row = "RUNNING|None|gr1|1780000000|1780086400|fingertip"
    workers = f"104|{row}-worker-resnet50-0a1b2c\n105|{row}-worker-all-0a1b2c\n"
    slurm_commands.answer("squeue", f"101|{row}-final\n102|{row}-search\n103_0|{row}-train\n{workers}")
    main(["stop", "102", "--runs", str(tmp_path)])
    assert [words for words in slurm_commands.asked("scancel") if words] == [["102"]]
    assert capsys.readouterr().out.splitlines() == [
        "cancelled 102: drives a search",
        "which study 102 drives is not known here: its workers, if it has any, leave by themselves after the "
        "profile's pool.rejoin_s; to stop them now: python -m slurm.launch stop STUDY --runs ITS-RUNS",
        "a running job saves before it ends; launching it again resumes",
    ]


def test_stopping_a_driver_by_its_number_takes_its_workers_and_no_run_of_that_name(
    slurm_commands, tmp_path: Path
) -> None:
    row = "RUNNING|None|gr1|1780000000|1780086400"
    launched_into(tmp_path, "102")
    named = [
        f"101|{row}|fingertip-final-resnet50",
        f"102|{row}|fingertip-search",  # Slurm did not let it be renamed
        f"103|{row}|{worker_of(tmp_path)}",
        f"104|{row}|{worker_of(tmp_path, 'resnet50-2')}",
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
    slurm_commands.answer("squeue", queue_of(tmp_path))
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
