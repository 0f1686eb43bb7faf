from pipeline.paths import StudyPaths
from pipeline.trials import Status, TrialState
from tune.prune import prune


def trial(number: int, status: Status, rmse: float | None) -> TrialState:
    return TrialState(number, {}, 0, "random", 0.0, status=status, best_rmse=rmse)


def test_only_checkpoints_that_are_worth_their_space_stay(paths: StudyPaths) -> None:
    trials = [
        trial(0, "completed", 0.009),
        trial(1, "stopped", 0.002),
        trial(2, "stopped", 0.003),
        trial(3, "stopped", 0.004),
        trial(4, "failed", 0.001),
        trial(5, "running", 0.008),
        trial(6, "failed", None),
    ]
    for state in trials:
        run = paths.trial(state.number)
        run.root.mkdir(parents=True)
        run.best.touch()
        run.latest.touch()
    prune(paths, trials, keep=2, in_line=[2])
    assert {best.parent.name for best in paths.trials.glob("*/best.pt")} == {"0000", "0001", "0002", "0005"}
    assert {latest.parent.name for latest in paths.trials.glob("*/latest.pt")} == {"0002", "0005"}
    prune(paths, trials, keep=2)
