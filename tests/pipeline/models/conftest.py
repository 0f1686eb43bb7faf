from functools import cache

import pytest
import torch

from pipeline.models import build


@pytest.fixture(scope="session")
def full_size():
    """From a name to its full-size network without memory behind it, built once."""

    @cache
    def on_meta(name):
        with torch.device("meta"):
            return build(name)

    return on_meta
