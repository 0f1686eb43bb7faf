"""A memory that holds so many images: the one thing about a GPU that the tests have to make up."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def ran_out() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory (simulated)\nand what is in use, line by line")


@contextmanager
def no_memory_for_a_network() -> Iterator[None]:
    """Memory runs out as soon as a network has its first parameter."""

    def refuse(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter) -> None:
        raise ran_out()

    handle = torch.nn.modules.module.register_module_parameter_registration_hook(refuse)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def memory_for(images: int) -> Iterator[None]:
    """Networks run out of memory above so many images, as on a GPU, wherever they are called."""

    def check(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        image = inputs[0] if inputs else None
        is_batch = isinstance(image, torch.Tensor) and image.shape[1:2] == (12,)
        if is_batch and len(image) > images:
            raise ran_out()

    handle = torch.nn.modules.module.register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()
