import pytest

from pipeline.errors import DivergedError
from pipeline.meter import refuse_explosion


def test_a_loss_that_explodes_ends_the_run():
    with pytest.raises(DivergedError, match="loss of epoch 70 is 5.1e[+]04, more than 100 times .* 500; "):
        refuse_explosion(70, 51_000.0, [500.0, 20.0, 3.0])


@pytest.mark.parametrize(("loss", "before"), [(1e9, []), (49_000.0, [500.0]), (300.0, [500.0, 1.0])])
def test_a_loss_that_a_run_may_come_back_from_does_not(loss, before):
    refuse_explosion(len(before) + 1, loss, before)
