"""The device a run computes on, and what can be measured of it."""

from __future__ import annotations

import os
import sys

import torch

from pipeline.config import Precision, RunConfig
from pipeline.errors import ConfigError
from pipeline.units import BYTES_PER_GB

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
SLOW = "minutes to hours an epoch; --profile smoke trains its small sibling in seconds"


def choose_device(config: RunConfig) -> torch.device:
    """The device that the configuration asks for; `auto` takes a GPU if there is one.

    Raises ConfigError at once for a GPU that is asked for and absent, and for fp16 without one; says so where
    a full-size network is going to be trained on the CPU.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device: cuda was asked for, but torch sees no GPU (CUDA_VISIBLE_DEVICES="
            f"{os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')}); run where there is one or set device=cpu"
        )
    use_gpu = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    if config.train.precision == "fp16" and not use_gpu:
        raise ConfigError("train.precision: fp16 needs a GPU; on the CPU use fp32 or bf16")
    if config.train.precision == "bf16" and use_gpu and not torch.cuda.is_bf16_supported(False):
        raise ConfigError(
            f"train.precision: {torch.cuda.get_device_name()} does not compute in bf16; use fp16 or fp32"
        )
    if not use_gpu and not config.model.small:
        print(f"the full-size {config.model.name} on the CPU: {SLOW}", file=sys.stderr)
    return torch.device("cuda" if use_gpu else "cpu")


def device_name(device: torch.device) -> str:
    """The GPU's name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def limit_threads(config: RunConfig) -> None:
    """One thread for the small networks: they gain nothing from more, and waiting threads slow others."""
    if config.model.small:
        torch.set_num_threads(1)


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a network computes in a run's precision; fp16 falls back to fp32 on the CPU."""
    enabled = precision == "bf16" or (precision == "fp16" and device.type == "cuda")
    return torch.autocast(device.type, DTYPES[precision] if enabled else None, enabled=enabled)


def make_deterministic(config: RunConfig) -> None:
    """Restricts torch to deterministic kernels if the configuration says so."""
    if config.train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch documents this for cuBLAS
    torch.use_deterministic_algorithms(config.train.deterministic)


def peak_memory_gb(device: torch.device) -> float | None:
    """The most memory that tensors took on the GPU, in GB; None on the CPU."""
    return torch.cuda.max_memory_allocated(device) / BYTES_PER_GB if device.type == "cuda" else None


def reset_peak_memory(device: torch.device) -> None:
    """Forgets what earlier runs of this process took."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def gpu_utilisation(device: torch.device) -> float | None:
    """The share of the last second or less in which the GPU computed; None where it cannot be told."""
    if device.type != "cuda":
        return None
    try:
        return torch.cuda.utilization(device) / 100
    except Exception:  # the driver's own errors: shared GPUs refuse the question; no reason to end a run
        return None
