import json
import random
from pathlib import Path

import pytest

from pipeline.config import SearchConfig
from pipeline.errors import ConfigError
from pipeline.records import Epoch
from tune.asha import Rungs
from tune.chances import Chances
from tune.curves import Curve, Table, make_table, read_table, write_table
from tune.journal import MemoryJournal
from tune.policies import Policy, policy
from tune.replay import main, play
from tune.scores import score
from tune.simulate import Cluster, Find, Simulation, Trace

ONE = Cluster(1)
SHIPPED = Path(__file__).with_name("data") / "curves.csv"
RESNET = SHIPPED.with_name("resnet50.csv")


def some_table(settings: int = 40, epochs: int = 9, seed: int = 0) -> Table:
    draw = random.Random(seed)
    curves = []
    for number in range(settings):
        end = draw.uniform(0.002, 0.008)
        rmse = tuple(end * (1 + draw.uniform(0.8, 1.2) / epoch) for epoch in range(1, epochs + 1))
        curves.append(Curve({"number": number}, rmse, (), (draw.uniform(1, 2),) * epochs))
    return make_table("made up", curves)


def simulate(table: Table, name: str, cluster: Cluster = ONE, seed: int = 0) -> tuple[Trace, MemoryJournal]:
    chosen = policy(name)
    study = chosen.study(table, seed)
    trace = Simulation(study, table, chosen.metric, cluster, seed).run()
    assert study.complete
    journal = study._journal
    assert isinstance(journal, MemoryJournal)
    return trace, journal


def test_random_search_trains_everything_and_finds_the_best() -> None:
    table = some_table()
    trace, _ = simulate(table, "random-full")
    assert trace.epochs == table.total_epochs
    assert trace.finds[-1].rmse == table.lowest
    assert trace.worker_seconds == pytest.approx(trace.clock)
    assert trace.clock == pytest.approx(sum(sum(curve.seconds) for curve in table.curves))


def test_more_workers_train_the_same_in_less_time() -> None:
    table = some_table()
    one, eight = (simulate(table, "random-full", Cluster(workers))[0] for workers in (1, 8))
    assert one.epochs == eight.epochs
    assert one.clock / 8 <= eight.clock < one.clock / 6


def test_rays_asha_stops_early_and_second_chances_end_with_everything() -> None:
    table = some_table()
    assert simulate(table, "ray-asha")[0].epochs < table.total_epochs / 2
    trace, journal = simulate(table, "asha:keep=1000")
    assert trace.epochs == table.total_epochs
    assert trace.finds[-1].rmse == table.lowest
    assert any(record.event == "revived" for record in journal)


def test_the_share_bounds_what_is_trained() -> None:
    table = some_table()
    for workers in (1, 8):
        assert simulate(table, "asha:share=0.5,keep=1000", Cluster(workers))[0].epochs <= (
            table.total_epochs / 2 + workers * table.epochs
        )


def test_a_trial_whose_checkpoint_was_removed_begins_anew() -> None:
    table = some_table()
    kept, removed = (simulate(table, f"asha:keep={keep}")[0] for keep in (1000, 1))
    assert removed.epochs > kept.epochs


def test_the_same_seed_repeats_a_search_exactly() -> None:
    table, cluster = some_table(), Cluster(4, loss_rate=0.05, queue_wait_s=3)
    first, second, other = (simulate(table, "asha", cluster, seed)[0] for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_lost_workers_cost_time_but_no_trial() -> None:
    table = some_table()
    calm, rough = (simulate(table, "random-full", Cluster(4, rate))[0] for rate in (0.0, 0.2))
    assert calm.epochs == rough.epochs
    assert rough.worker_seconds > calm.worker_seconds
    waited, _ = simulate(table, "random-full", Cluster(4, 0.2, queue_wait_s=60))
    assert waited.clock > rough.clock
    assert waited.finds[-1].rmse == table.lowest


def test_a_diverged_setting_fails_where_it_did() -> None:
    diverged = Curve({"number": -1}, (0.1, float("nan")), (), (1.0, 1.0))
    table = make_table("t", [*some_table(3).curves, diverged])
    _, journal = simulate(table, "random-full")
    failed = [record for record in journal if getattr(record, "reason", "") == "DIVERGED"]
    assert len(failed) == 1


def test_a_journal_of_a_replay_reproduces_every_decision() -> None:
    table = some_table()
    _, journal = simulate(table, "asha", Cluster(5, loss_rate=0.05))
    search = policy("asha").settings(table)
    rungs, chances = Rungs.of(search), Chances(search)
    for record in journal:
        if isinstance(record, Epoch):
            assert rungs.decide(record.trial, record.epoch, record.rmse).decision == record.decision
        if record.event == "revived":
            chance = chances.next()
            assert chance is not None
            assert (chance.trial, chance.to_end) == (record.trial, record.to_end)  # type: ignore[attr-defined]
        rungs.take(record)
        chances.take(record)


def test_ten_thousand_workers_are_no_trouble() -> None:
    trace, _ = simulate(some_table(2000), "ray-asha", Cluster(10_000))
    assert len(trace.finds) > 0


@pytest.mark.parametrize(
    ("table", "workers"),
    [(SHIPPED, 1), (SHIPPED, 8), (SHIPPED, 100), (SHIPPED, 10_000), (RESNET, 8), (RESNET, 100)],
)
def test_the_shipped_tables_are_searched_well(table: Path, workers: int) -> None:
    """The claims of the README, over fewer seeds."""
    row = play(policy("asha:share=0.5"), read_table(table), Cluster(workers), seeds=5)
    assert (row.lost_at_half, row.missed_at_half) == (0, 0)
    assert row.regret[1 / 4] <= 0.01


def test_rays_defaults_lose_the_best_of_the_shipped_table() -> None:
    table = read_table(SHIPPED)
    assert (len(table.curves), table.epochs) == (256, 27)
    stock = play(policy("ray-asha"), table, Cluster(8), seeds=5)
    assert stock.lost >= 4
    assert stock.regret[1 / 4] > 0.01


def test_policies_take_settings_of_the_search_section() -> None:
    chosen = policy("asha:grace=3,reduction=4,metric=rmse")
    assert chosen == Policy(
        "asha:grace=3,reduction=4,metric=rmse", "rmse", {"share": 1, "grace": 3, "reduction": 4}
    )
    settings = chosen.settings(some_table())
    assert settings == SearchConfig(trials=40, epochs=9, grace=3, reduction=4, share=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("best", "'best' is not one of random-full, ray-asha, asha, asha-tpe"),
        ("asha:grace", "'grace' is not key=value, as in asha:grace=3"),
        ("asha:metric=loss", "metric 'loss' is not one of rmse, rmse_ema, best"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        policy(text)


def test_an_unknown_search_key_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'graze'; known here: .*grace"):
        policy("asha:graze=3").settings(some_table())


def test_what_was_not_found_is_infinite_or_missed() -> None:
    table = make_table("t", [Curve({"n": 0}, (0.2, 0.1), (), (1.0, 1.0))] * 2)
    found = Trace(finds=[Find(0.2, 1, 1.0, 1.0), Find(0.1, 2, 2.0, 2.0)], epochs=2, clock=2.0)
    missed = Trace(finds=[Find(0.2, 1, 1.0, 1.0)], epochs=1, clock=1.0)
    row = score("p", [found, missed, missed], table)
    assert (row.missed, row.lost, row.missed_at_half) == (2, 2, 2)
    assert row.epochs_to_close[0] == row.epochs_to_close[2] == float("inf")
    assert row.regret[1.0] == pytest.approx(1.0)
    assert row.as_tree()["epochs_to_close"][1] is None
    assert score("p", [found], table).epochs_to_close == (2, 2, 2)


def test_the_command_prints_tables_for_eighty_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path / "t.csv", some_table(12).curves)
    main(["--curves", str(tmp_path / "t.csv"), "--seeds", "2", "--workers", "2"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert all(name in text for name in ("random-full", "ray-asha", "asha", "12 settings"))


def test_the_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path / "t.csv", some_table(12).curves)
    main(["--curves", str(tmp_path / "t.csv"), "--seeds", "3", "--policy", "ray-asha", "asha", "--json"])
    tree = json.loads(capsys.readouterr().out)
    assert [row["policy"] for row in tree["policies"]] == ["ray-asha", "asha"]
    assert tree["policies"][1]["lost"] == 0


@pytest.mark.parametrize("flag", [["--loss-rate", "1"], ["--queue-wait", "-1"], ["--workers", "0"]])
def test_impossible_clusters_are_refused(flag: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--curves", "t.csv", *flag])
    assert "error: argument" in capsys.readouterr().err


def test_play_gives_a_row_over_all_seeds() -> None:
    assert play(policy("asha"), some_table(), ONE, seeds=3).seeds == 3
