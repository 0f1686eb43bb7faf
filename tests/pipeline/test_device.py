import pytest
import torch

from pipeline.config import RunConfig
from pipeline.configfile import validated
from pipeline.device import choose_device
from pipeline.errors import ConfigError


def config(small, device="cpu", **train):
    tree = {"model": {"name": "convnext", "small": small}, "train": train, "device": device}
    return validated(RunConfig, tree)


@pytest.mark.parametrize(("small", "said"), [(True, False), (False, True)])
def test_a_full_size_network_on_the_cpu_is_not_silent(small, said, capsys):
    assert choose_device(config(small)) == torch.device("cpu")
    expected = (
        "the full-size convnext on the CPU: minutes to hours an epoch; --profile smoke trains its small"
    )
    assert capsys.readouterr().err.startswith(expected) == said


def test_half_precision_needs_a_gpu():
    with pytest.raises(ConfigError, match="fp16 needs a GPU; on the CPU use fp32 or bf16"):
        choose_device(config(small=True, precision="fp16"))
