"""What cost the report's author results and time, and the tests that would have caught it.

Each test named here must exist; what it shows is written there.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LESSONS = {
    "every sample was given the first label, and validation looked superb": [
        "pipeline/data/test_layout.py::test_samples_come_in_numerical_order_with_their_own_label",
        "pipeline/data/test_pack.py::test_packed_arrays_hold_the_raw_samples_in_order",
        "pipeline/data/test_dataset.py::test_batches_hold_the_rows_asked_for",
    ],
    "three search jobs with the same default seed ran the same trials": [
        "tune/test_space.py::test_two_studies_draw_different_trials",
        "tune/test_space.py::test_no_configuration_is_drawn_twice_and_a_finite_space_ends",
        "tune/test_journal.py::test_a_study_that_is_running_is_refused_with_how_to_follow_it",
    ],
    "a batch size of 33 left a last batch of one sample, which BatchNorm refused": [
        "pipeline/data/test_dataset.py::test_the_batch_size_that_once_ended_a_run",
        "pipeline/data/test_dataset.py::test_every_sample_once_and_no_batch_of_one",
        "pipeline/test_microbatch.py::test_pieces_are_even_and_never_of_one",
    ],
    "a batch size of 109 did not fit into the GPU's memory and ended the trial": [
        "pipeline/test_microbatch.py::"
        "test_a_run_that_does_not_fit_goes_on_in_pieces_with_the_batch_that_was_asked_for",
        "pipeline/test_microbatch.py::test_the_size_that_fitted_is_remembered_for_the_next_run",
        "tune/test_memory_limit.py::"
        "test_a_third_of_the_settings_exceeds_the_memory_and_every_trial_trains_the_batch_it_was_given",
        "pipeline/test_microbatch.py::test_without_batchnorm_gradients_equal_those_of_the_whole_batch",
    ],
    "the space missed the known good learning rates, and drew whole numbers as fractions": [
        "test_configs.py::test_the_space_contains_the_reports_setting",
        "tune/test_space.py::test_the_reports_setting_comes_first",
        "tune/test_space.py::test_log_uniform_spreads_over_the_decades",
        "tune/test_space.py::test_draws_stay_in_their_ranges_and_whole_numbers_stay_whole",
    ],
    "a search that could not end in its time stopped nothing early and left no result": [
        "tune/test_asha.py::test_the_first_at_a_rung_goes_on_and_then_only_the_better_ones",
        "tune/test_restart.py::test_with_one_worker_any_number_of_kills_changes_nothing",
        "tune/test_kills.py::test_with_four_workers_the_journal_tells_every_decision_after_twenty_kills",
        "pipeline/test_leaderboard.py::test_best_yaml_names_the_winner_and_the_final_run_takes_it_over",
        "test_end_to_end.py::test_a_search_killed_again_and_again_accounts_for_every_trial",
    ],
    "resuming looked for a file that was never written, and began again at epoch 0": [
        "pipeline/test_train.py::test_a_run_stopped_between_epochs_goes_on_as_if_it_had_not_been",
        "pipeline/test_train.py::test_a_run_cut_in_the_middle_of_an_epoch_ends_as_if_it_had_not_been",
        "test_end_to_end.py::test_a_run_killed_with_9_in_an_epoch_equals_the_uninterrupted_one",
    ],
    "the log was emptied at every start and never flushed": [
        "pipeline/test_reproducible.py::test_an_epoch_is_on_disk_when_it_is_reported_and_stays_there",
        "tune/test_study.py::test_a_record_is_on_disk_when_the_listener_hears_of_it",
        "pipeline/test_records.py::test_a_torn_last_line_is_dropped_wherever_it_was_torn",
    ],
    "the validation loss was a mean of batch means that began at -1": [
        "pipeline/test_metrics.py::test_rmse_is_over_all_numbers_in_metres",
        "pipeline/test_metrics.py::test_rmse_does_not_depend_on_the_batch_size",
        "pipeline/test_predict.py::test_a_checkpoint_predicts_what_validation_measured",
    ],
    "settings that nothing read were accepted in silence": [
        "pipeline/test_config.py::test_an_unknown_key_is_refused_with_the_known_ones",
        "test_configs.py::test_every_setting_is_read_somewhere",
        "tune/test_search.py::test_what_cannot_be_run_is_refused",
    ],
    "schedules hung on the model's name, and a repeated milestone counted three times": [
        "pipeline/test_config.py::test_repeated_milestones_are_refused_because_the_factor_would_apply_twice",
        "pipeline/test_schedule.py::test_lr_factor_at_known_epochs",
        "test_configs.py::test_every_corner_of_the_space_is_a_valid_run",
    ],
    "the ids of the submission were right only for one loading process": [
        "pipeline/test_predict.py::test_predictions_go_with_their_ids_in_whatever_order_samples_lie",
        "pipeline/test_predict.py::test_the_submission_has_the_ids_of_its_samples_and_finite_metres",
        "pipeline/data/test_pack.py::test_the_fingerprint_knows_the_content_but_not_how_it_was_packed",
    ],
    "images were prepared differently for the submission than for training": [
        "pipeline/test_predict.py::test_a_checkpoint_predicts_what_validation_measured",
        "pipeline/data/test_transforms.py::test_it_survives_yaml_and_json_exactly",
    ],
    "a run diverged at epoch 70 and used up its hours": [
        "pipeline/test_train.py::test_a_diverging_run_ends_with_a_name_and_a_remedy",
        "pipeline/test_meter.py::test_a_loss_that_explodes_ends_the_run",
        "pipeline/test_train.py::test_options_change_the_result",
        "tune/test_asha.py::test_what_is_not_finite_never_survives_a_rung_and_does_not_count_there",
    ],
    "a run kept 188 GB of checkpoints, and none was marked as the best": [
        "pipeline/test_train.py::test_a_run_leaves_its_record_and_only_the_best_weights",
        "tune/test_prune.py::test_only_checkpoints_that_are_worth_their_space_stay",
    ],
    "the job found no Python, which nobody saw before it had waited in the queue": [
        "slurm/test_doctor_host.py::test_the_job_found_no_python_is_known_before_it_waits",
        "slurm/test_doctor_host.py::test_conda_activate_that_fails_is_named_even_if_some_python_answers",
        "slurm/test_probe.py::test_a_job_that_did_not_report",
        "slurm/test_doctor_on_slurm.py::test_the_job_found_no_python_though_this_host_has_one",
    ],
    "without seeds and versions, one configuration gave two results, and one overwrote the other": [
        "pipeline/test_reproducible.py::test_the_same_seed_gives_the_same_numbers_and_another_gives_others",
        "pipeline/test_reproducible.py::test_a_run_names_its_code_seed_and_data",
        "pipeline/test_train.py::test_another_configuration_is_refused_in_the_same_folder",
    ],
}


@cache
def names_in(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_all_seventeen_are_here():
    assert len(LESSONS) == 17
    assert [lesson for lesson, tests in LESSONS.items() if not tests] == []


@pytest.mark.parametrize(
    ("lesson", "test"), [(lesson, test) for lesson, tests in LESSONS.items() for test in tests]
)
def test_what_would_have_caught_it_exists(lesson, test):
    path, _, name = test.partition("::")
    assert name in names_in(TESTS / path), f"{lesson}: {test} is gone"
