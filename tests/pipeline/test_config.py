import pytest
from pydantic import ValidationError

from pipeline.config import Experiment, MultiStep, RunConfig
from pipeline.configfile import (
    apply_values,
    load_experiment,
    merge,
    parse_scalar,
    shipped,
    validated,
    with_overrides,
)
from pipeline.errors import ConfigError

MINIMAL = {"model": {"name": "resnet50"}}


def refusal(tree):
    with pytest.raises(ConfigError) as caught:
        validated(Experiment, {**MINIMAL, **tree})
    return str(caught.value)


def test_an_unknown_key_is_refused_with_the_known_ones():
    message = refusal({"train": {"learning_rate": 1}})
    assert message.startswith(
        "train: unknown key 'learning_rate'; known here: epochs, batch_size, lr, optimizer"
    )


@pytest.mark.parametrize(
    ("key", "meant"),
    [("lrr", "; did you mean 'lr'?"), ("weight_deca", "; did you mean 'weight_decay'?"), ("x", "")],
)
def test_the_key_that_was_probably_meant_is_named(key, meant):
    assert refusal({"train": {key: 1}}).endswith(f"precision, deterministic{meant}")


def test_a_key_without_its_section_is_refused_with_the_sections_that_have_it():
    assert refusal({"lr": 1}).endswith("final, twin; did you mean 'train.lr'?")
    assert refusal({"epochs": 1}).endswith("'train.epochs' or 'search.epochs' or 'final.epochs'?")


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"train": {"lr": -1}}, "train.lr: Input should be greater than 0 (found -1)"),
        ({"train": {"lr": float("inf")}}, "train: lr is inf; a finite number is needed"),
        (
            {"train": {"batch_size": 1}},
            "train.batch_size: Input should be greater than or equal to 2 (found 1)",
        ),
        (
            {"train": {"optimizer": "lion"}},
            "train.optimizer: Input should be 'adam', 'adamw' or 'sgd' (found 'lion')",
        ),
        (
            {"data": {"split": "random"}},
            "data.split: known are head:0.7, block:0.7, kfold:0/5 and full (found 'random')",
        ),
        (
            {"train": {"scheduler": "cosine"}},
            "train.scheduler: known are constant, multistep, step and cosine, as in {name: cosine} (",
        ),
        (
            {"train": {"scheduler": {"name": "cosin"}}},
            "train.scheduler: known are constant, multistep, step and cosine, as in {name: cosine} (",
        ),
        (
            {"train": {"scheduler": {"name": "step"}}},
            "train.scheduler.step.every: Field required (found {'name': 'step'})",
        ),
        (
            {"train": {"scheduler": {"name": "multistep", "milestones": [30, 60]}}},
            'train.scheduler.multistep.milestones: [30, 60]: expected epochs with a base, as in "30 of 200"',
        ),
        (
            {"data": {"depth": "log"}},
            "data.depth: Input should be 'clip', 'report', 'symmetric' or 'per_image' (found 'log')",
        ),
        (
            {"data": {"augment": {"mixup": {}}}},
            "data.augment: unknown key 'mixup'; known here: colour_jitter, depth_noise, random_erasing",
        ),
        (
            {"data": {"augment": {"pix_dropout": {"probability": 2}}}},
            "data.augment.pix_dropout.probability: Input should be less than or equal to 1 (found 2)",
        ),
        ({"search": {"grace": 30, "epochs": 9}}, "search: grace 30 exceeds epochs 9"),
        (
            {"search": {"space": {"train.lr": {"log_uniform": [1, 0.1]}}}},
            "search.space.train.lr.log_uniform: log_uniform [1.0, 0.1]: needs 0 < low < high",
        ),
        (
            {"search": {"space": {"train.lr": {"normal": [0, 1]}}}},
            "search.space.train.lr: expected one of log_uniform",
        ),
    ],
)
def test_bad_values_are_named_with_what_is_allowed(tree, expected):
    assert refusal(tree).startswith(expected)


def test_repeated_milestones_are_refused_because_the_factor_would_apply_twice():
    with pytest.raises(ValidationError, match="must rise: a repeated one would apply the factor twice"):
        MultiStep(milestones="[30, 30, 30] of 200")


def test_epochs_with_their_base_are_fractions_of_the_run():
    assert MultiStep(milestones="[30, 60, 90] of 200").milestones == (0.15, 0.3, 0.45)


def test_the_hash_covers_the_request_and_not_the_device():
    config = validated(RunConfig, MINIMAL)
    assert config.hash() == config.model_copy(update={"device": "cpu", "checkpoint_every_s": 1.0}).hash()
    assert config.hash() != config.model_copy(update={"seed": 1}).hash()


@pytest.mark.parametrize(
    ("text", "value"),
    [("3e-4", 3e-4), ("1E3", 1e3), ("true", True), ("null", None), ("[1, 2]", [1, 2]), ("x", "x")],
)
def test_override_values_are_read_as_meant(text, value):
    assert parse_scalar(text) == value


def test_overrides_reach_into_sections():
    tree = with_overrides(MINIMAL, ["train.lr=3e-4", "model.small=true"])
    assert tree == {"model": {"name": "resnet50", "small": True}, "train": {"lr": 3e-4}}


def test_a_range_of_the_space_can_be_overridden():
    tree = with_overrides(MINIMAL, ["search.space.train.lr={log_uniform: [0.1, 1]}"])
    assert tree["search"] == {"space": {"train.lr": {"log_uniform": [0.1, 1]}}}
    assert with_overrides(tree, ["search.space={}"])["search"] == {"space": {}}


@pytest.mark.parametrize("text", ["foo of 200", "[[1]] of x of 200", "{1} of 200", "30 of 0", "1 2 of 9"])
def test_epochs_that_are_no_numbers_are_refused(text):
    message = refusal({"train": {"scheduler": {"name": "step", "every": text}}})
    assert 'expected epochs with a base, as in "30 of 200" or "[30, 60] of 200"' in message


def test_an_override_without_value_is_refused():
    with pytest.raises(ConfigError, match="--set train.lr: expected KEY=VALUE, as in --set train.lr=3e-4"):
        with_overrides(MINIMAL, ["train.lr"])


def test_a_scheduler_replaces_the_one_below_it_whole():
    base = {"train": {"lr": 1, "scheduler": {"name": "step", "every": 0.1}}}
    top = {"train": {"scheduler": {"name": "cosine"}}}
    assert merge(base, top) == {"train": {"lr": 1, "scheduler": {"name": "cosine"}}}
    same = {"train": {"scheduler": {"name": "step", "factor": 0.1}}}
    assert merge(base, same)["train"]["scheduler"] == {"name": "step", "every": 0.1, "factor": 0.1}


def test_drawn_values_are_laid_over_a_configuration():
    config = validated(RunConfig, MINIMAL)
    changed = apply_values(config, {"train.lr": 0.5, "train.scheduler": {"name": "cosine"}})
    assert (changed.train.lr, changed.train.scheduler.name) == (0.5, "cosine")


def test_augmentations_can_be_set_and_searched_and_belong_to_the_request():
    tree = with_overrides(MINIMAL, ["data.augment.pix_dropout.probability=0.7"])
    config = validated(RunConfig, tree)
    assert config.data.augment.pix_dropout.p_max == 0.15
    drawn = {"data.augment.pix_dropout.probability": 0.7}
    plain = validated(RunConfig, MINIMAL)
    assert apply_values(plain, drawn) == config
    assert config.hash() != plain.hash()


def test_an_experiment_survives_being_written_down():
    experiment = load_experiment(shipped("model")[0])
    assert validated(Experiment, experiment.model_dump(mode="json")) == experiment


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown model 'vgg'; known: .*convnext"):
        load_experiment("vgg")


def test_a_file_that_is_no_mapping_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("- 1\n")
    with pytest.raises(ConfigError, match="holds a list; expected sections such as 'train:'"):
        load_experiment("resnet50", file=path)
