import math

import pytest
import torch

from learner.importance import Correction, is_outside

WEIGHTS = [0.1, 0.49, 0.51, 1.0, 1.9, 2.1, 30.0]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("full", WEIGHTS),
        ("truncated", [0.1, 0.49, 0.51, 1.0, 1.9, 2.0, 2.0]),
        ("masked", [0.0, 0.0, 0.51, 1.0, 1.9, 0.0, 0.0]),
    ],
)
def test_weights_on_both_sides_of_the_threshold(mode, expected):
    log_weights = torch.tensor([math.log(w) for w in WEIGHTS], requires_grad=True)
    found = Correction(mode, 2.0).weights(log_weights)
    torch.testing.assert_close(found, torch.tensor(expected))
    assert not found.requires_grad


@pytest.mark.parametrize("mode", ["full", "truncated", "masked"])
def test_equal_policies_weigh_exactly_one_and_far_ones_stay_finite(mode):
    found = Correction(mode, 2.0).weights(torch.tensor([0.0, 500.0, -500.0]))
    assert found[0] == 1.0
    assert found.isfinite().all()


def test_what_lies_outside():
    assert is_outside(torch.tensor(WEIGHTS), 2.0).tolist() == [True, True, False, False, False, True, True]
