from pathlib import Path

import pytest

from pipeline.configfile import shipped
from pipeline.errors import ConfigError
from slurm.cluster import EnvironmentConfig, choose_cluster, load_cluster

CONFIG = """\
Configuration data as of 2026-11-26T05:00:00
ClusterName             = {name}
SlurmctldHost[0]        = here
"""


def profile(tmp_path: Path, text: str) -> str:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", shipped("cluster"))
def test_every_shipped_profile_loads_and_says_how_to_use_it(name: str) -> None:
    cluster = load_cluster(name)
    assert cluster.name == name
    assert cluster.gpu.gpus == 1
    header = (Path("configs/cluster") / f"{name}.yaml").read_text().partition("\n\n")[0]
    for word in ("# Source: ", "# Command: ", "# Change: "):
        assert word in header


def test_times_are_minutes_or_a_clock(tmp_path: Path) -> None:
    for text, expected in (("90", 90), ('"01:30:00"', 90), ('"2-00:00:30"', 2 * 24 * 60 + 1)):
        assert load_cluster(profile(tmp_path, f"gpu: {{time: {text}}}")).gpu.time == expected


def test_a_clock_without_quotes_is_refused_as_yaml_reads_another_number(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'write time: "4:00:00" with quotes; without them YAML reads'):
        load_cluster(profile(tmp_path, "gpu:\n  time: 4:00:00  # hours\n"))


def test_a_key_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    path = profile(tmp_path, "gpu: {partitions: gpu}")
    with pytest.raises(ConfigError) as caught:
        load_cluster(path)
    assert f"cluster profile {path}: gpu: unknown key 'partitions'; known here: partition, qos," in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('gpu: {time: "4 hours"}', 'gpu.time: expected minutes, "hh:mm:ss" or "d-hh:mm:ss", in quotes'),
        ("gpu: {time: 3}", "pool.drain_s is 300 s, but gpu.time is 180 s in all: no time to train; lower"),
        (
            "environment: {container: apptainer exec a.sif}",
            "a container needs `python`: the command inside it",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_do(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_cluster(profile(tmp_path, text))
    assert expected in str(caught.value)


def test_an_unknown_profile_is_refused_with_those_there_are_and_how_to_write_one() -> None:
    with pytest.raises(ConfigError) as caught:
        load_cluster("grene")
    known = ", ".join(shipped("cluster"))
    assert str(caught.value) == (
        f"unknown cluster 'grene'; known: {known}; "
        "or write your own: copy configs/cluster/greene.yaml, adapt it and give --cluster FILE "
        "(or PIPELINE_CLUSTER=FILE)"
    )


def test_the_profile_is_asked_for_or_set_or_found_by_slurms_own_name(
    slurm_commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIPELINE_CLUSTER", raising=False)
    slurm_commands.answer("scontrol", CONFIG.format(name="greene"))
    assert choose_cluster(None).name == "greene"
    monkeypatch.setenv("PIPELINE_CLUSTER", "constraint")
    assert choose_cluster(None).name == "constraint"
    assert choose_cluster("test").name == "test"


def test_a_slurm_that_no_profile_knows_is_told(slurm_commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPELINE_CLUSTER", raising=False)
    slurm_commands.answer("scontrol", CONFIG.format(name="elsewhere"))
    with pytest.raises(
        ConfigError, match="this Slurm calls itself 'elsewhere', and no profile knows it; give"
    ):
        choose_cluster(None)


def test_scratch_is_the_first_folder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = EnvironmentConfig(scratch=("$JOB_DISK", str(tmp_path)))
    monkeypatch.delenv("JOB_DISK", raising=False)
    assert site.scratch_folder() == tmp_path
    monkeypatch.setenv("JOB_DISK", str(tmp_path.parent))
    assert site.scratch_folder() == tmp_path.parent
    with pytest.raises(ConfigError, match=r"environment.scratch: none of /nowhere is there on "):
        EnvironmentConfig(scratch=("/nowhere",)).scratch_folder()
