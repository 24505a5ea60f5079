import math

import pytest
import torch
from torch import nn

from learner.optimizers import clipped_step
from protocol.errors import UpdateDiverged


def two_parameters():
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    return a, b, torch.optim.SGD([a, b], lr=1.0)


def test_each_group_is_clipped_by_its_own_norm():
    a, b, optimizer = two_parameters()
    a.grad, b.grad = torch.tensor([3.0, 4.0]), torch.tensor([0.5])
    norms = clipped_step(optimizer, [("a", [a]), ("b", [b])], max_norm=1.0, loss=0.0)
    assert norms == {"a": pytest.approx(5.0), "b": pytest.approx(0.5)}
    torch.testing.assert_close(a.data, torch.tensor([-0.6, -0.8]), atol=1e-5, rtol=0)
    torch.testing.assert_close(b.data, torch.tensor([-0.5]))
    assert a.grad is None


@pytest.mark.parametrize(("gradient", "loss"), [(math.nan, 0.0), (math.inf, 0.0), (1.0, math.nan)])
def test_non_finite_numbers_are_not_applied(gradient, loss):
    a, b, optimizer = two_parameters()
    a.grad, b.grad = torch.tensor([gradient, 0.0]), torch.tensor([1.0])
    with pytest.raises(UpdateDiverged, match="not finite, the step was not applied"):
        clipped_step(optimizer, [("a", [a]), ("b", [b])], max_norm=1.0, loss=loss)
    assert a.tolist() == [0.0, 0.0]
    assert b.tolist() == [0.0]
    assert a.grad is None
