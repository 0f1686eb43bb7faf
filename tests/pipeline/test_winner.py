"""Which run of which setting becomes the winner."""

import pandas as pd
import pytest

from pipeline.leaderboard import COLUMNS, origin, ranked, winner
from pipeline.spread import spreads
from pipeline.trials import TrialState


def board(*rows):
    defaults = {"kind": "search", "profile": "full", "data": "d@1", "split": "s", "status": "completed"}
    frame = pd.DataFrame([{**defaults, "study": "a", **row} for row in rows], columns=COLUMNS)
    return ranked(frame)


def confirmed(*trials):
    """The rows of a study: (number, confirms, status, rmse in metres); those cut off cost least."""
    states = [
        TrialState(number, {}, number, "random", 0.0, confirms, status=status, best_rmse=rmse)
        for number, confirms, status, rmse in trials
    ]
    known = spreads({state.number: state for state in states})
    return board(
        *(
            {
                "trial": state.number,
                "kind": "search" if state.confirms is None else "confirm",
                "status": state.status,
                "rmse": state.best_rmse,
                "rmse_mean": known[state.number].mean if state.number in known else None,
                "gpu_hours": 0.1 if state.status != "completed" else 1.0 + state.number,
                "checkpoint": f"trial {state.number}",
            }
            for state in states
        )
    )


@pytest.mark.parametrize("status", ["running", "stopped"])
def test_a_repeat_that_has_not_reached_its_end_does_not_win_by_the_mean_of_the_others(status):
    frame = confirmed(
        (5, None, "completed", 0.0045),
        (20, 5, "completed", 0.0042),
        (21, 5, "completed", 0.0040),
        (22, 5, status, 0.0200),
    )
    assert winner(frame)["checkpoint"] == "trial 21"
    assert list(frame["trial"]) == [5, 20, 21, 22]
    assert pd.isna(frame.set_index("trial").loc[22, "rmse_mean"])


@pytest.mark.parametrize("rmse", [0.0060, 0.0001])
def test_the_run_that_a_setting_was_chosen_for_does_not_win_if_it_was_cut_off(rmse):
    repeats = [(20 + k, 5, "completed", 0.0040 + 0.0001 * k) for k in range(3)]
    assert winner(confirmed((5, None, "stopped", rmse), *repeats))["checkpoint"] == "trial 20"


def test_of_the_completed_runs_of_a_setting_the_lowest_wins_whatever_it_cost():
    repeats = [(20, 5, "completed", 0.0042), (21, 5, "completed", 0.0040)]
    assert winner(confirmed((5, None, "completed", 0.0039), *repeats))["checkpoint"] == "trial 5"
    assert winner(confirmed((5, None, "completed", 0.0041), *repeats))["checkpoint"] == "trial 21"


def test_in_a_study_of_which_some_were_confirmed_only_these_win():
    frame = board(
        {"trial": 3, "rmse": 0.0015, "checkpoint": "a3"},
        {"trial": 1, "rmse": 0.001, "rmse_mean": 0.003, "checkpoint": "a1"},
        {"trial": 2, "rmse": 0.002, "rmse_mean": 0.002, "checkpoint": "a2"},
        {"study": "b", "trial": 0, "rmse": 0.004, "checkpoint": "b0"},
    )
    assert list(frame["checkpoint"]) == ["a3", "a2", "a1", "b0"]
    assert winner(frame)["checkpoint"] == "a2"
    assert winner(frame[frame["study"] == "b"])["checkpoint"] == "b0"


@pytest.mark.parametrize("elsewhere", [{"study": "other", "trial": 7}, {"study": None, "kind": "train"}])
@pytest.mark.parametrize(("rmse", "wins"), [(0.0025, "one run"), (0.0045, "steady")])
def test_one_run_of_another_study_is_compared_with_the_mean_of_a_confirmed_setting(elsewhere, rmse, wins):
    steady = {"rmse": 0.0042, "rmse_mean": 0.0041, "checkpoint": "steady", "data": "moved@1"}
    frame = board({"rmse": rmse, "checkpoint": "one run", **elsewhere}, steady)
    assert winner(frame)["checkpoint"] == frame["checkpoint"][0] == wins


@pytest.mark.parametrize("difference", [{"data": "e@2"}, {"split": "other"}, {"profile": "smoke"}])
def test_a_setting_confirmed_under_other_conditions_does_not_win(difference):
    steady = {
        "rmse_mean": 0.0001,
        "rmse": 0.0001,
        "checkpoint": "steady",
        "started": "2026-01-01",
        **difference,
    }
    frame = board({"rmse": 0.004, "checkpoint": "here", "started": "2026-01-02"}, steady)
    assert winner(frame)["checkpoint"] == "here"


def test_a_confirmed_setting_of_which_no_weights_are_left_does_not_keep_others_from_winning():
    frame = board({"rmse": 0.004, "checkpoint": "here"}, {"rmse_mean": 0.003, "rmse": 0.003})
    assert winner(frame)["checkpoint"] == "here"


def test_a_person_is_told_which_run_has_won():
    assert origin({"study": "a", "trial": 3, "config_hash": "f0"}) == "trial 3 of study a"
    assert origin({"study": None, "trial": None, "config_hash": "f0"}) == "run f0"
