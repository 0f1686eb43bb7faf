"""Pretrained weights: found on this disk or refused, then loaded by name with their shapes checked.

Training never downloads: compute nodes often have no internet, and a job should fail before it is submitted.
`python -m pipeline.models fetch NAME` downloads ahead of time, into the Hugging Face cache (HF_HOME).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Stem
from pipeline.data.channels import COLOURS
from pipeline.errors import ConfigError
from pipeline.models.table import Backbone, find

if TYPE_CHECKING:
    from torch import Tensor, nn

HUB_FILE = "model.safetensors"
SUFFIXES = (".pt", ".pth", ".safetensors")
NAMES_SHOWN = 5  # of a longer list of differences, in an error
OPTIONAL_ENDING = "num_batches_tracked"  # a counter; torchvision's oldest checkpoints lack it


def hub_repository(backbone: Backbone) -> str:
    """Where timm keeps the ImageNet weights of the full backbone, as in "timm/resnet50.tv_in1k"."""
    return f"timm/{backbone.weights}"


def require_weights(name: str, pretrained: bool | str, small: bool = False) -> Path | None:
    """The file that `pretrained` means: false: none, true: timm's ImageNet weights, a text: that file.

    Touches neither torch nor the network, so that a plan can be checked before anything starts.
    Raises ConfigError, with what to do, if the file is not on this machine or cannot be what is meant.
    """
    backbone = find(name)
    if pretrained is False:
        return None
    if isinstance(pretrained, str):
        return _local_file(Path(pretrained))
    if small:
        raise ConfigError(
            f"model.pretrained is true, but the small {name} has no pretrained weights; "
            "allowed with model.small: false or a checkpoint's path; use --set model.pretrained=false"
        )
    return _cached_file(backbone)


def _local_file(path: Path) -> Path:
    if path.suffix not in SUFFIXES:
        raise ConfigError(
            f"model.pretrained: {path} is neither true, false nor a checkpoint ({', '.join(SUFFIXES)})"
        )
    if not path.is_file():
        raise ConfigError(f"model.pretrained: {path}: no such file")
    return path


def _cached_file(backbone: Backbone) -> Path:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    repository = hub_repository(backbone)
    found = try_to_load_from_cache(repository, HUB_FILE)
    if isinstance(found, str):
        return Path(found)
    folder = Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    raise ConfigError(
        f"the ImageNet weights of {backbone.name} are not on this machine: no {HUB_FILE} of {repository} "
        f"in {folder}. On a machine with internet that shares this folder (HF_HOME moves it), run: "
        f"python -m pipeline.models fetch {backbone.name}. "
        "Or train without: --set model.pretrained=false, or from a file: --set model.pretrained=FILE"
    )


def fetch(name: str) -> Path:
    """Downloads the ImageNet weights of a backbone into the Hugging Face cache, unless they are there.

    Raises ConfigError for an unknown name and if the download fails.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    repository = hub_repository(find(name))
    try:
        return Path(hf_hub_download(repository, HUB_FILE))
    except (OSError, HfHubHTTPError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{HUB_FILE} of {repository} could not be downloaded ({reason}). Run this where huggingface.co "
            "can be reached, with HF_HOME on a disk that the training machines see"
        ) from None


def load_weights(model: nn.Module, backbone: Backbone, path: Path, stem: Stem = "adapted") -> None:
    """Fills the backbone of a fresh `model` from a checkpoint; the output layer (and a pose head) stay fresh.

    With `adapted`, a three-channel input convolution is repeated over the twelve channels and scaled down to
    match, as timm does; with `fresh` it keeps the model's random weights, as in the report. Raises
    ConfigError, naming the layers, if any name or shape differs otherwise.
    """
    from pipeline.models.pose import PoseNet

    target = model.backbone if isinstance(model, PoseNet) else model
    wanted = {key: value for key, value in target.state_dict().items() if _is_loaded(key, backbone)}
    state = {key: value for key, value in read_state(path).items() if _is_loaded(key, backbone)}
    state = _with_fresh_input(state, target) if stem == "fresh" else _with_adapted_input(state, target)
    differences = _differences(state, wanted)
    if differences:
        more = f" and {len(differences) - NAMES_SHOWN} more" if len(differences) > NAMES_SHOWN else ""
        raise ConfigError(
            f"{path} does not fit {backbone.name}: {'; '.join(differences[:NAMES_SHOWN])}{more}. "
            f"Give a checkpoint of {backbone.weights} or of the same architecture"
        )
    target.load_state_dict(state, strict=False)  # not strict: only for what _is_loaded leaves out


def _is_loaded(key: str, backbone: Backbone) -> bool:
    return not key.startswith(backbone.not_loaded)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a .pt file, by name; nothing in the file is executed.

    Raises ConfigError if the file is damaged or holds anything but named tensors.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # code to execute where tensors should be
        state = None
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        raise ConfigError(f"{path} cannot be read as a checkpoint: {str(error).splitlines()[0]}") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ConfigError(
            f"{path} is not a state dict: "
            "expected tensors by name, as torch.save(model.state_dict(), path) writes"
        )
    return state


def _with_adapted_input(state: dict[str, Tensor], target: nn.Module) -> dict[str, Tensor]:
    """The state with its first convolution widened from three channels, if it has three."""
    from timm.models import adapt_input_conv

    name, first = _input_layer(target)
    weight = state.get(f"{name}.weight")
    if weight is None or weight.ndim != first.weight.ndim or weight.shape[1] != COLOURS:
        return state
    return {**state, f"{name}.weight": adapt_input_conv(first.in_channels, weight)}


def _with_fresh_input(state: dict[str, Tensor], target: nn.Module) -> dict[str, Tensor]:
    """The state with the first convolution as it is in the model."""
    name, first = _input_layer(target)
    return {**state, **{f"{name}.{key}": value.clone() for key, value in first.state_dict().items()}}


def _input_layer(target: nn.Module) -> tuple[str, nn.Conv2d]:
    from torch import nn

    return next((name, part) for name, part in target.named_modules() if isinstance(part, nn.Conv2d))


def _differences(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """One text for each name that is missing, superfluous or of another shape."""
    missing = [key for key in wanted if key not in state and not key.endswith(OPTIONAL_ENDING)]
    differing = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    return [
        *(f"{key} is missing" for key in missing),
        *(f"{key} is unknown here" for key in state if key not in wanted),
        *(f"{key} is {_shape(state[key])}, needs {_shape(wanted[key])}" for key in differing),
    ]


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
