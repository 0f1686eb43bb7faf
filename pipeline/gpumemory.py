"""Giving GPU memory back between networks; torch is not imported where nothing has used it."""

from __future__ import annotations

import gc
import sys
from contextlib import suppress


def free_gpu_memory() -> None:
    """Gives back what no tensor uses any more, as the next network may need it in larger pieces."""
    torch = sys.modules.get("torch")  # absent where a stand-in trains nothing
    if torch is None or not torch.cuda.is_initialized():
        return
    gc.collect()
    with suppress(RuntimeError):  # a broken context cannot, and its process ends
        torch.cuda.empty_cache()
