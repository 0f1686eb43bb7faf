"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from pipeline.config import OptimizerName, TrainConfig

Parameters = Iterable[torch.nn.Parameter]


def build_optimizer(parameters: Parameters, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer that `config.optimizer` names. Adam's weight decay is L2, AdamW's decoupled."""
    return OPTIMIZERS[config.optimizer](parameters, config)


def _adam(parameters: Parameters, config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, config.lr, config.betas, weight_decay=config.weight_decay)


def _adamw(parameters: Parameters, config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, config.lr, config.betas, weight_decay=config.weight_decay)


def _sgd(parameters: Parameters, config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, config.lr, config.momentum, weight_decay=config.weight_decay)


OPTIMIZERS: dict[OptimizerName, Callable[[Parameters, TrainConfig], torch.optim.Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "sgd": _sgd,
}
