"""The exponential moving average of a network's weights and running statistics.

While the learning rate is high, the average foretells the end of a run better than the weights themselves;
see Morales-Brotons et al., arXiv:2411.18704, for what it does and why. Kept by torch's own AveragedModel.
"""

from __future__ import annotations

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def averaged(model: torch.nn.Module, ema_epochs: float | None, steps_per_epoch: int) -> AveragedModel | None:
    """An average of `model` that looks back about `ema_epochs` epochs; None where none is asked for.

    The decay is 1 - 1 / (ema_epochs x steps_per_epoch) an optimizer step, at least 0.
    """
    if ema_epochs is None:
        return None
    decay = max(0.0, 1 - 1 / (ema_epochs * steps_per_epoch))
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
