"""The device a run computes on, and what can be measured of it."""

from __future__ import annotations

import os

import torch

from pipeline.config import RunConfig
from pipeline.errors import ConfigError

BYTES_PER_GB = 1e9


def choose_device(config: RunConfig) -> torch.device:
    """The device that the configuration asks for; `auto` takes a GPU if there is one.

    Raises ConfigError at once for a GPU that is asked for and absent, and for fp16 without one.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device: cuda was asked for, but torch sees no GPU (CUDA_VISIBLE_DEVICES="
            f"{os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')}); run where there is one or set device=cpu"
        )
    use_gpu = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    if config.train.precision == "fp16" and not use_gpu:
        raise ConfigError("train.precision: fp16 needs a GPU; on the CPU use fp32 or bf16")
    return torch.device("cuda" if use_gpu else "cpu")


def make_deterministic(config: RunConfig) -> None:
    """Restricts torch to deterministic kernels if the configuration says so."""
    if config.train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch documents this for cuBLAS
    torch.use_deterministic_algorithms(config.train.deterministic)


def peak_memory_gb(device: torch.device) -> float | None:
    """The most memory that tensors took on the GPU, in GB; None on the CPU."""
    return torch.cuda.max_memory_allocated(device) / BYTES_PER_GB if device.type == "cuda" else None


def gpu_utilisation(device: torch.device) -> float | None:
    """The GPU's utilisation of the last sampling period, 0 to 1; None where it cannot be told."""
    if device.type != "cuda":
        return None
    try:
        return torch.cuda.utilization(device) / 100
    except (RuntimeError, ModuleNotFoundError):  # no NVML on this machine
        return None
