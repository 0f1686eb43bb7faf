import json
import math
import shutil

import pandas as pd
import pytest
import yaml

from pipeline.config import Experiment, RunConfig
from pipeline.configfile import validated
from pipeline.errors import StudyError
from pipeline.final import rank_again, read_winner, validation_of
from pipeline.leaderboard import COLUMNS, best_rows, ranked, refresh
from pipeline.paths import Workspace
from pipeline.provenance import Purpose
from pipeline.records import Begun, Drawn, Ended, Epoch, Started
from pipeline.train import fit


def test_the_columns_are_those_promised():
    assert ",".join(COLUMNS) == (
        "rank,study,model,arch,trial,kind,profile,data,split,status,reason,rmse,rmse_last,rmse_mean,rmse_std,"
        "n_seeds,best_epoch,epochs,rung,lr,batch_size,weight_decay,scheduler,optimizer,loss,pretrained,seed,"
        "micro_batch,precision,params,images_per_s,gpu_hours,gpu_util,data_wait,peak_memory_gb,slurm_job,node,"
        "started,finished,commit,config_hash,checkpoint"
    )


def board(*rows):
    defaults = {"kind": "search", "profile": "full", "data": "d", "split": "s", "status": "completed"}
    frame = pd.DataFrame([{**defaults, **row} for row in rows], columns=COLUMNS)
    return ranked(frame)


def ranks(frame):
    return {row.study: None if pd.isna(row["rank"]) else int(row["rank"]) for _, row in frame.iterrows()}


def test_rank_is_by_confirmed_mean_else_by_rmse_and_ties_go_to_fewer_gpu_hours():
    frame = board(
        {"study": "lucky", "rmse": 0.001, "rmse_mean": 0.004},
        {"study": "dear", "rmse": 0.003, "gpu_hours": 2.0},
        {"study": "cheap", "rmse": 0.003, "gpu_hours": 1.0},
        {"study": "steady", "rmse": 0.005, "rmse_mean": 0.002},
    )
    assert ranks(frame) == {"steady": 1, "cheap": 2, "dear": 3, "lucky": 4}
    assert list(ranks(frame)) == ["steady", "cheap", "dear", "lucky"]


def test_the_runs_to_the_end_of_a_confirmed_setting_share_its_mean(tmp_path):
    workspace = Workspace(tmp_path)
    study = workspace.study("hands")
    study.root.mkdir(parents=True)
    experiment = validated(Experiment, {**TREE, "search": {"epochs": 3, "grace": 1}})
    request = {"profile": "smoke", "data": "f" * 64, "experiment": experiment.model_dump(mode="json")}
    study.request.write_text(yaml.safe_dump(request))
    records, values = [Begun(study="hands")], {"train.lr": 0.001}
    runs = ((0, None, 0.002), (1, None, 0.0025), (2, 0, 0.003), (3, 0, 0.004), (4, 0, 0.0001))
    for trial, confirms, rmse in runs:
        ending = {"status": "failed", "reason": "DIVERGED"} if trial == 4 else {"status": "completed"}
        records += [
            Drawn(trial=trial, values=values, seed=trial, source="random", confirms=confirms),
            Started(trial=trial, attempt=1, node="gr1", slurm_job=None, pid=1),
            Epoch(trial=trial, rmse=rmse, decision="continue", rung=None, epoch=1, seconds=1.0, attempt=1),
            Ended(trial=trial, **ending),
        ]
    study.journal.write_text("".join(record.line() for record in records))
    frame = refresh(workspace).set_index("trial").sort_index()
    assert list(frame["kind"]) == ["search", "search", "confirm", "confirm", "confirm"]
    assert list(frame["rmse"]) == [0.002, 0.0025, 0.003, 0.004, 0.0001]
    assert list(frame["rmse_mean"].fillna(0)) == pytest.approx([0.0035, 0, 0.0035, 0.0035, 0])
    spread = 0.001 / 2**0.5
    assert list(frame["rmse_std"].fillna(0)) == pytest.approx([spread, 0, spread, spread, 0])
    assert list(frame["n_seeds"]) == [2, 1, 2, 2, 1]  # not the one it was chosen for
    assert list(frame["rank"].fillna(0)) == [2, 1, 3, 4, 0]


def test_the_final_run_tells_how_far_its_origin_can_be_trusted():
    one = {"rmse": 0.002, "rmse_mean": None, "rmse_std": None, "n_seeds": 1}
    assert validation_of(one) == "2.000 mm, of one run"
    three = {"rmse": 0.002, "rmse_mean": 0.003, "rmse_std": 0.001, "n_seeds": 3}
    assert validation_of(three) == "3.000 mm, the mean of 3 seeds that spread by 1.000"


def test_failed_and_final_rows_and_rows_without_score_have_no_rank():
    frame = board(
        {"study": "failed", "rmse": 0.001, "status": "failed"},
        {"study": "final", "rmse": 0.001, "kind": "final"},
        {"study": "young", "status": "running"},
        {"study": "nan", "rmse": math.nan},
        {"study": "stopped", "rmse": 0.009, "status": "stopped"},
    )
    assert ranks(frame) == {"stopped": 1, "failed": None, "final": None, "young": None, "nan": None}


def test_ranks_are_within_the_same_data_split_and_profile():
    frame = board(
        {"study": "a", "rmse": 0.002},
        {"study": "b", "rmse": 0.001, "data": "other"},
        {"study": "c", "rmse": 0.003},
        {"study": "d", "rmse": 0.0001, "profile": "smoke"},
    )
    assert ranks(frame) == {"b": 1, "a": 1, "c": 2, "d": 1}


def test_the_newest_comparable_runs_come_first_and_smoke_runs_last():
    frame = board(
        {"study": "easy", "rmse": 0.0001, "data": "twin@1", "started": "2026-01-01T00:00:00+00:00"},
        {"study": "smoke", "rmse": 0.0001, "profile": "smoke", "started": "2026-03-01T00:00:00+00:00"},
        {"study": "real", "rmse": 0.003, "data": "hand@2", "started": "2026-01-02T00:00:00+00:00"},
        {"study": "same", "rmse": 0.002, "data": "moved@2", "started": "2026-01-01T00:00:00+00:00"},
    )
    assert ranks(frame) == {"same": 1, "real": 2, "easy": 1, "smoke": 1}
    assert list(ranks(frame)) == ["same", "real", "easy", "smoke"]


def test_damaged_records_are_left_out_by_name_and_the_rest_is_ranked(workspace, capsys):
    broken = workspace.run("train", "broken")
    broken.root.mkdir(parents=True)
    broken.record.write_text("config_hash: 1\n")
    other = workspace.study("damaged")
    other.root.mkdir(parents=True)
    other.request.write_text("{}")
    other.journal.write_text("no json\n")
    try:
        assert len(refresh(workspace)) == 4
    finally:
        shutil.rmtree(broken.root)
        shutil.rmtree(other.root)
    lines = capsys.readouterr().err
    assert f"left out of the leaderboard: {broken.root}: KeyError" in lines
    assert f"{other.journal}: StudyError: {other.journal}, line 1: 'no json' is not a JSON object" in lines


def test_a_workspace_without_runs_has_an_empty_table_and_no_winner(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.best.write_text("row: stale")
    assert len(refresh(workspace)) == 0
    assert workspace.leaderboard.read_text() == ",".join(COLUMNS) + "\n"
    assert not workspace.best.exists()


TREE = {
    "model": {"name": "resnet50", "small": True},
    "train": {"epochs": 1, "batch_size": 8, "scheduler": {"name": "cosine", "warmup": 0.1}},
    "device": "cpu",
}


@pytest.fixture(scope="module")
def workspace(blobs, tmp_path_factory):
    """A study of three trials, one of which never began to train, beside a run of its own."""
    workspace = Workspace(tmp_path_factory.mktemp("runs").resolve())
    study, config = workspace.study("hands"), validated(RunConfig, TREE)
    trained = fit(config, blobs, study.trial(0), purpose=Purpose("search", "smoke", final_epochs=7))
    experiment = validated(Experiment, {**TREE, "search": {"epochs": 3, "grace": 1}})
    request = {"profile": "smoke", "data": "f" * 64, "experiment": experiment.model_dump(mode="json")}
    study.request.write_text(yaml.safe_dump(request))
    started = {"node": "gr1", "slurm_job": "77_3", "pid": 1}
    epoch = {"epoch": 1, "seconds": 1.0, "attempt": 1}
    records = [
        Begun(study="hands"),
        *(Drawn(trial=k, values={"train.lr": 0.001}, seed=5, source="configured") for k in range(4)),
        *(Started(trial=k, attempt=1, **started) for k in range(3)),
        Epoch(trial=0, rmse=trained.rmse, decision="continue", rung=1, **epoch),
        Ended(trial=0, status="completed"),
        Epoch(trial=1, rmse=trained.rmse + 1, decision="stop", rung=1, **epoch),
        Ended(trial=2, status="failed", reason="HOST_OOM", message="no memory"),
    ]
    study.journal.write_text("".join(record.line() for record in records))
    fit(config, blobs, workspace.run("train", "alone"), purpose=Purpose("train", "smoke", final_epochs=7))
    return workspace


def test_rows_join_the_journal_and_the_runs_own_record(workspace):
    frame = refresh(workspace)
    first = frame.iloc[0]
    assert (first["rank"], first["study"], first["trial"], first["status"]) == (1, "hands", 0, "completed")
    assert (first["node"], first["slurm_job"], first["scheduler"]) == ("gr1", "77_3", "cosine warmup 0.1")
    assert (first["arch"], first["params"] > 0, first["gpu_hours"]) == ("resnet50-small", True, 0)
    assert first["checkpoint"] == str(workspace.study("hands").trial(0).best)
    alone = frame[frame["kind"] == "train"].iloc[0]
    assert (alone["rmse"], alone["rank"], alone["status"]) == (first["rmse"], 2, "completed")


def test_a_trial_that_failed_before_training_has_a_row_with_its_reason(workspace):
    failed = refresh(workspace).set_index("trial").loc[2]
    assert (failed["status"], failed["reason"], failed["lr"]) == ("failed", "HOST_OOM", 0.001)
    assert (failed["model"], failed["arch"], failed["data"]) == ("resnet50", "resnet50-small", "@ffffffff")
    assert pd.isna(failed["rank"])
    assert pd.isna(failed["params"])


def test_a_trial_that_was_only_drawn_has_no_row(workspace):
    assert refresh(workspace)["trial"].dropna().tolist() == [0, 1, 2]


@pytest.mark.parametrize("other", [{"epoch": 9}, {"rmse": 0.5}])
def test_a_checkpoint_that_is_not_what_the_row_measured_is_not_named(workspace, other):
    paths = workspace.study("hands").trial(0)
    kept = paths.best_epoch.read_text()
    other = json.loads(kept) | other
    paths.best_epoch.write_text(json.dumps(other))
    try:
        frame = refresh(workspace).set_index("study")
        assert pd.isna(frame.loc["hands"].query("trial == 0")["checkpoint"].iloc[0])
    finally:
        paths.best_epoch.write_text(kept)


def test_best_yaml_names_the_winner_and_the_final_run_takes_it_over(workspace):
    refresh(workspace)
    best = yaml.safe_load(workspace.best.read_text())
    assert best["row"]["study"] == "hands"
    assert best["checkpoint"] == best["row"]["checkpoint"]
    winner = read_winner(workspace, ["train.lr=0.5"])
    assert (winner.config.data.split, winner.config.train.epochs, winner.config.train.lr) == ("full", 7, 0.5)
    assert winner.config.train.batch_size == best["config"]["train"]["batch_size"] == 8


def test_the_same_records_give_the_same_bytes(workspace):
    refresh(workspace)
    before = workspace.leaderboard.read_bytes(), workspace.best.read_bytes()
    refresh(workspace)
    assert (workspace.leaderboard.read_bytes(), workspace.best.read_bytes()) == before


def test_the_final_run_may_be_of_one_models_best_row(workspace):
    assert read_winner(workspace, [], model="resnet50").row["study"] == "hands"
    with pytest.raises(StudyError) as caught:
        read_winner(workspace, [], model="hrnet")
    assert str(caught.value) == (
        f"{workspace.leaderboard}: no usable row of model 'hrnet' (models there: resnet50); "
        "search it first: python -m tune.search --model hrnet"
    )


def test_a_final_run_keeps_the_row_it_began_with(workspace, tmp_path):
    refresh(workspace)
    pin = tmp_path / "winner.yaml"
    first = read_winner(workspace, [], pin=pin)
    pin.write_text(pin.read_text().replace("study: hands", "study: earlier"))
    assert read_winner(workspace, []) == first
    assert read_winner(workspace, [], pin=pin).row["study"] == "earlier"


def test_the_final_run_takes_the_winner_of_the_records_whatever_a_killed_search_left(workspace):
    refresh(workspace)
    best = workspace.best.read_text()
    workspace.best.write_text(best.replace("study: hands", "study: overtaken"))
    assert read_winner(workspace, []).row["study"] == "hands"
    assert workspace.best.read_text() == best


def test_a_winner_that_was_kept_without_its_runs_can_still_be_trained(workspace, tmp_path, capsys):
    refresh(workspace)
    kept = Workspace(tmp_path)
    shutil.copy(workspace.best, kept.best)
    assert read_winner(kept, []) == read_winner(workspace, [])
    rank_again(kept)
    assert kept.best.read_bytes() == workspace.best.read_bytes()
    assert capsys.readouterr().err.startswith(f"{kept.best}: taken as it is")


def test_a_person_sees_the_best_rows():
    frame = board(
        {"study": "a", "trial": 7, "rmse": 0.004, "kind": "search", "status": "completed"},
        {"study": "a", "trial": 2, "rmse": 0.002, "rmse_mean": 0.003, "n_seeds": 3},
        {"study": "a", "trial": 5, "rmse": 0.001, "status": "failed"},
    )
    heading, first, second = best_rows(frame).splitlines()
    assert heading.split()[:2] == ["rank", "study"]
    assert (first.split()[:3], first.split()[-1]) == (["1", "a", "2"], "3.000")
    assert (second.split()[:3], second.split()[-1]) == (["2", "a", "7"], "4.000")
