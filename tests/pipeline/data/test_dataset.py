import numpy as np
import pytest
import torch

from pipeline.data.dataset import Samples, epoch_batches, eval_batches
from pipeline.data.pack import PackedSplit
from pipeline.errors import ConfigError, DataError

CPU = torch.device("cpu")


@pytest.mark.parametrize("resident", [True, False])
def test_batches_hold_the_rows_asked_for(packed_split: PackedSplit, resident: bool) -> None:
    rows = np.array([6, 0, 3, 5])
    samples = Samples(packed_split, rows, CPU, resident=resident)
    assert len(samples) == 4
    batch = samples.batch(np.array([2, 0]))
    assert torch.equal(batch.rgb_B9HW, torch.from_numpy(packed_split.rgb[[3, 6]]))
    assert batch.depth_mm_B3HW.dtype == torch.int32
    assert np.array_equal(batch.depth_mm_B3HW.numpy(), packed_split.depth[[3, 6]])
    assert batch.depth_mm_B3HW.max() == 65535
    assert batch.label_mm_B12 is not None
    assert batch.label_mm_B12.dtype == torch.float32
    assert packed_split.labels is not None
    np.testing.assert_allclose(batch.label_mm_B12, packed_split.labels[[3, 6]] * 1000, rtol=1e-6)


def test_changing_a_batch_does_not_change_the_samples(packed_split: PackedSplit) -> None:
    for resident in (True, False):
        samples = Samples(packed_split, np.arange(7), CPU, resident=resident)
        batch = samples.batch(np.array([1]))
        batch.rgb_B9HW.zero_()
        batch.depth_mm_B3HW.zero_()
        again = samples.batch(np.array([1]))
        assert again.rgb_B9HW.any()
        assert again.depth_mm_B3HW.any()


def test_the_cpu_reads_from_the_memory_map(packed_split: PackedSplit) -> None:
    assert not Samples(packed_split, np.arange(7), CPU).resident


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("resident", [None, False])
def test_a_gpu_gets_the_same_batches(packed_split: PackedSplit, resident: bool | None) -> None:
    rows, positions = np.arange(7), np.array([4, 1, 6])
    on_gpu = Samples(packed_split, rows, torch.device("cuda"), resident)
    assert on_gpu.resident == (resident is None)
    found, expected = on_gpu.batch(positions), Samples(packed_split, rows, CPU).batch(positions)
    assert torch.equal(found.rgb_B9HW.cpu(), expected.rgb_B9HW)
    assert torch.equal(found.depth_mm_B3HW.cpu(), expected.depth_mm_B3HW)
    assert found.label_mm_B12 is not None
    assert expected.label_mm_B12 is not None
    assert torch.equal(found.label_mm_B12.cpu(), expected.label_mm_B12)


@pytest.mark.parametrize("batch_size", [2, 3, 16, 32, 33, 64, 109])
def test_every_sample_once_and_no_batch_of_one(batch_size: int) -> None:
    for count in range(2, 240):
        batches = epoch_batches(count, batch_size, seed=1, epoch=1)
        assert sorted(np.concatenate(batches)) == list(range(count))
        sizes = [len(batch) for batch in batches]
        assert min(sizes) >= 2
        assert max(sizes) <= batch_size + 1
        assert all(size == batch_size for size in sizes[:-1])


def test_the_batch_size_that_once_ended_a_run() -> None:
    assert 2377 % 33 == 1
    assert [len(batch) for batch in epoch_batches(2377, 33, seed=0, epoch=1)] == [33] * 71 + [34]


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    def order(seed: int, epoch: int, batch_size: int = 4) -> list[int]:
        return np.concatenate(epoch_batches(50, batch_size, seed, epoch)).tolist()

    first = order(7, 3)
    np.random.seed(0)
    torch.manual_seed(0)
    assert order(7, 3) == first
    assert order(7, 3, batch_size=16) == first
    others = [order(seed, epoch) for seed in range(5) for epoch in range(5)]
    assert len({tuple(other) for other in others}) == 25


def test_too_few_samples_for_batch_norm_are_refused() -> None:
    with pytest.raises(DataError, match="1 training samples; at least 2 are needed for BatchNorm"):
        epoch_batches(1, 32, seed=0, epoch=1)
    with pytest.raises(ConfigError, match=r"train\.batch_size 1; at least 2 are needed for BatchNorm"):
        epoch_batches(10, 1, seed=0, epoch=1)


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (8, [4, 4]), (9, [4, 4, 1])])
def test_evaluation_takes_the_samples_in_order(count: int, sizes: list[int]) -> None:
    batches = eval_batches(count, 4)
    assert [len(batch) for batch in batches] == sizes
    assert [position for batch in batches for position in batch] == list(range(count))
