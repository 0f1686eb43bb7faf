import math

import pytest
import torch

from pipeline.metrics import SquaredError


def measured(predicted_mm, label_mm, batch_size):
    error = SquaredError(torch.device("cpu"))
    for start in range(0, len(label_mm), batch_size):
        part = slice(start, start + batch_size)
        error.add(predicted_mm[part], label_mm[part])
    return error.rmse_m()


def test_rmse_is_over_all_numbers_in_metres():
    label = torch.zeros(2, 12)
    predicted = torch.zeros(2, 12)
    predicted[0, 0] = 24.0  # mm
    assert measured(predicted, label, 2) == pytest.approx(24.0 / math.sqrt(24) / 1000, rel=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 32, 33, 100])
def test_rmse_does_not_depend_on_the_batch_size(batch_size):
    generator = torch.Generator().manual_seed(0)
    label = 50 * torch.randn(100, 12, generator=generator)
    predicted = label + torch.randn(100, 12, generator=generator)
    assert measured(predicted, label, batch_size) == pytest.approx(measured(predicted, label, 100), rel=1e-14)


def test_rmse_of_nothing_is_not_a_number():
    assert math.isnan(SquaredError(torch.device("cpu")).rmse_m())
