"""Commands that start a study from an earlier one."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.pack import PackWriter, Sample, open_pack
from pipeline.errors import StudyError
from pipeline.paths import Workspace
from pipeline.records import Begun, Drawn, Warm, read_journal
from pipeline.train import fit
from tests.tune.earlier import trained
from tune.driver import carry_out
from tune.journal import Journal
from tune.local_ray import LocalRay
from tune.plan import make_plans, this_machine
from tune.request import Request
from tune.search import build_parser, main
from tune.space import Space


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """A folder with the study `resnet50`, and the command that made it."""
    monkeypatch.delenv("PIPELINE_DATA", raising=False)
    runs = tmp_path / "runs"
    data = tmp_path / "pack"
    with PackWriter(data, {"train": 4}, 64, 64, ("train",), "made up") as writer:
        for index in range(4):
            rgb, depth = np.zeros((9, 64, 64), np.uint8), np.full((3, 64, 64), 500, np.uint16)
            writer.write("train", index, Sample(rgb, depth, index, np.zeros(12)))
    command = ["--model", "resnet50", "--runs", str(runs), "--data", str(data), "--profile", "smoke"]
    command += ["--executor", "local"]
    (plan,) = make_plans(build_parser().parse_args(command), this_machine("for a test"))
    paths = plan.workspace.study("resnet50")
    Request("resnet50", "smoke", open_pack(data).meta.fingerprint, None, plan.experiment).write(paths)
    space = Space(plan.experiment.search.space, plan.experiment.trial(0))
    with Journal(paths) as journal:
        journal.append(Begun(study="resnet50"))
        for number in range(12):
            draw = space.draw("resnet50", number, ())
            assert draw is not None
            for record in trained(number, draw.values, 0.004 + number / 1000):
                journal.append(record)
    return runs, command


def test_the_plan_says_what_is_taken_over_and_touches_nothing(
    searched: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    runs, command = searched
    main([*command, "--study", "two", "--warm-start", "resnet50", "--sampler", "tpe", "--dry-run"])
    text = capsys.readouterr().out
    assert "  warm start resnet50: its best 3 settings come after the configured one; TPE is\n" in text
    assert "told 12 results\n" in text
    assert all(len(line) <= 80 for line in text.splitlines() if str(runs.parent) not in line)
    assert not Workspace(runs).study("two").root.exists()
    main([*command, "--fresh", "--warm-start", "resnet50", "--set", "search.warm_settings=1", "--dry-run"])
    text = " ".join(capsys.readouterr().out.split())
    assert "study resnet50-2 (new)" in text
    assert "warm start resnet50: its best setting comes after the configured one results" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--warm-start", "resnet50"],
            r"search\.warm_start: None -> 'resnet50'\n.*use --study NAME, --fresh or",
        ),
        (["--study", "two", "--warm-start", "two"], "--warm-start two: is the new study itself"),
        (["--study", "two", "--warm-start", "1e3"], "--warm-start 1e3: no such study"),
    ],
)
def test_the_command_refuses_what_cannot_be_started_from(
    arguments: list[str], message: str, searched: tuple[Path, list[str]]
) -> None:
    _, command = searched
    with pytest.raises(StudyError, match=message):
        main([*command, *arguments, "--dry-run"])


def test_all_models_cannot_start_from_one_study(searched: tuple[Path, list[str]]) -> None:
    _, command = searched
    with pytest.raises(
        StudyError, match="--warm-start resnet50: a study starts from one of its own backbone"
    ):
        main(["--model", "all", *command[2:], "--warm-start", "resnet50", "--dry-run"])


class Interrupted(LocalRay):
    """A place where the user stops the search before a worker is started."""

    def start(self) -> None:
        raise KeyboardInterrupt


def test_a_search_writes_down_what_it_takes_over_and_resumes_when_the_earlier_study_is_gone(
    searched: tuple[Path, list[str]],
) -> None:
    runs, command = searched
    arguments = build_parser().parse_args([*command, "--study", "two", "--warm-start", "resnet50"])
    journals = []
    for _ in range(2):
        (plan,) = make_plans(arguments, this_machine("for a test"))
        with pytest.raises(KeyboardInterrupt), Interrupted(plan.workers) as here:
            carry_out([plan], fit, here)
        journals.append(read_journal(plan.workspace.study("two").journal))
        shutil.rmtree(runs / "studies" / "resnet50", ignore_errors=True)
    assert [type(record) for record in journals[0]] == [Begun, Warm, Drawn]
    assert journals[1] == journals[0]
    with pytest.raises(StudyError, match=r"  search\.warm_start: 'resnet50' -> None\n"):
        main([*command, "--study", "two", "--dry-run"])
