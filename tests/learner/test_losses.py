import math

import pytest
import torch

from learner.losses import (
    approximate_kl,
    explained_variance,
    policy_loss,
    ratio_numbers,
    reduce_tokens,
    response_log_probs,
    score_energies,
    score_function_loss,
    span_energies,
    token_weights,
    value_loss,
)
from protocol.trajectory import TokenRole

T, A, F = TokenRole.THOUGHT, TokenRole.ACTION, TokenRole.FORMAT


def slow_policy_loss(log_ratio, advantage, clip, max_ratio):
    """Equation 7 for one row."""
    ratio = math.exp(log_ratio)
    clipped = min(max(ratio, 1 - clip), 1 + clip)
    if max_ratio is not None and ratio > max_ratio:
        return -clipped * advantage
    return -min(ratio * advantage, clipped * advantage)


RATIOS = [0.05, 0.5, 0.899, 0.9, 0.95, 1.0, 1.05, 1.1, 1.101, 2.0, 9.99, 10.01, 50.0]


@pytest.mark.parametrize("max_ratio", [None, 10.0])
@pytest.mark.parametrize("advantage", [-2.0, 0.0, 1.5])
def test_policy_loss_equals_the_formula_on_both_sides_of_each_clip(advantage, max_ratio):
    log_ratio = torch.tensor([math.log(r) for r in RATIOS])
    found = policy_loss(log_ratio, torch.full((len(RATIOS),), advantage), clip=0.1, max_ratio=max_ratio)
    expected = [slow_policy_loss(x, advantage, 0.1, max_ratio) for x in log_ratio.tolist()]
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize(
    ("ratio", "advantage", "max_ratio", "moves"),
    [
        (1.0, 1.0, 10.0, True),
        (1.2, 1.0, 10.0, False),  # already far enough up
        (1.2, -1.0, 10.0, True),  # up, but it should go down
        (0.8, -1.0, 10.0, False),
        (0.8, 1.0, 10.0, True),
        (11.0, 1.0, 10.0, False),
        (11.0, -1.0, 10.0, False),  # the guard drops the row for either sign
        (11.0, -1.0, None, True),
    ],
)
def test_which_rows_give_a_policy_gradient(ratio, advantage, max_ratio, moves):
    log_ratio = torch.tensor([math.log(ratio)], requires_grad=True)
    policy_loss(log_ratio, torch.tensor([advantage]), clip=0.1, max_ratio=max_ratio).sum().backward()
    assert log_ratio.grad is not None
    assert bool(log_ratio.grad.abs() > 0) == moves
    if moves:
        assert float(log_ratio.grad) == pytest.approx(-advantage * ratio, rel=1e-5)


@pytest.mark.parametrize("max_ratio", [None, 10.0])
def test_huge_log_ratios_stay_finite_in_value_and_gradient(max_ratio):
    log_ratio = torch.tensor([500.0, -500.0, 500.0, -500.0], requires_grad=True)
    loss = policy_loss(log_ratio, torch.tensor([1.0, 1.0, -1.0, -1.0]), clip=0.1, max_ratio=max_ratio)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert log_ratio.grad is not None
    assert log_ratio.grad.isfinite().all()


def test_spans_are_summed_by_role_within_the_mask():
    log_probs = torch.tensor([[-1.0, -2.0, -4.0, -8.0, -16.0], [-0.5, -0.25, 0.0, 0.0, 0.0]])
    roles = torch.tensor([[F, T, T, A, F], [A, A, T, T, A]], dtype=torch.int8)
    response_mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    for weight in (0.0, 0.5, 1.0):
        found = response_log_probs(log_probs, roles, response_mask, weight)
        for row in range(2):
            sums = {T: 0.0, A: 0.0, F: 0.0}
            for token in range(5):
                if response_mask[row, token]:
                    sums[TokenRole(int(roles[row, token]))] += float(log_probs[row, token])
            assert float(found.thought[row]) == sums[T]
            assert float(found.action[row]) == sums[A]
            assert float(found.weighted[row]) == weight * sums[T] + sums[A]


def test_padding_never_counts_even_if_it_holds_numbers():
    roles = torch.tensor([[A, A]], dtype=torch.int8)
    mask = torch.tensor([[True, False]])
    assert response_log_probs(torch.tensor([[-1.0, -9.0]]), roles, mask, 0.5).weighted.tolist() == [-1.0]


def test_the_thought_weight_may_differ_by_row():
    roles = torch.tensor([[T, A], [T, A]], dtype=torch.int8)
    made = response_log_probs(torch.full((2, 2), -1.0), roles, roles >= 0, torch.tensor([0.0, 1.0]))
    assert made.weighted.tolist() == [-1.0, -2.0]


def test_bfloat16_log_probs_are_summed_in_float32():
    log_probs = torch.full((1, 300), -1.0, dtype=torch.bfloat16)
    roles = torch.zeros(1, 300, dtype=torch.int8)
    made = response_log_probs(log_probs, roles, roles == T, 1.0)
    assert made.weighted.dtype is torch.float32
    assert made.weighted.tolist() == [-300.0]


def slow_value_loss(value, old, target, clip):
    error = (value - target) ** 2
    if clip is not None:
        near = old + min(max(value - old, -clip), clip)
        error = max(error, (near - target) ** 2)
    return 0.5 * error


@pytest.mark.parametrize("clip", [None, 0.1])
def test_value_loss_equals_the_formula_on_both_sides_of_the_clip(clip):
    values = torch.tensor([0.0, 0.05, 0.1, 0.15, 1.0, -0.05, -0.15, -1.0])
    old = torch.zeros(8)
    for target in (-0.5, 0.0, 0.12, 5.0):
        found = value_loss(values, old, torch.full((8,), target), value_clip=clip)
        expected = [slow_value_loss(v, 0.0, target, clip) for v in values.tolist()]
        torch.testing.assert_close(found, torch.tensor(expected))


def test_the_value_clip_stops_the_gradient_towards_a_far_target():
    for clip, moves in ((None, True), (0.1, False)):
        value = torch.tensor([0.2], requires_grad=True)
        value_loss(value, torch.zeros(1), torch.tensor([10.0]), value_clip=clip).sum().backward()
        assert value.grad is not None
        assert bool(value.grad.abs() > 0) == moves


def test_kl_by_hand_and_never_negative():
    new, behavior = torch.tensor([[-1.0, -3.0]]), torch.tensor([[-2.0, -1.0]])
    mask = torch.tensor([[True, True]])
    expected = (math.exp(1) - 1 - 1) + (math.exp(-2) - 1 + 2)
    assert float(approximate_kl(new, behavior, mask)) == pytest.approx(expected)
    assert float(approximate_kl(new, behavior, torch.tensor([[True, False]]))) == pytest.approx(math.e - 2)
    assert approximate_kl(new, new, mask).tolist() == [0.0]


def test_kl_estimates_the_true_divergence():
    generator = torch.Generator().manual_seed(0)
    old = torch.log_softmax(torch.randn(6, generator=generator), 0)
    new = torch.log_softmax(torch.randn(6, generator=generator), 0)
    drawn = torch.multinomial(old.exp(), 40_000, replacement=True, generator=generator)
    estimate = approximate_kl(new[drawn][:, None], old[drawn][:, None], torch.ones(len(drawn), 1, dtype=torch.bool))
    truth = float((old.exp() * (old - new)).sum())
    assert float(estimate.mean()) == pytest.approx(truth, rel=0.05)


def test_ratio_numbers_count_each_side():
    log_ratio = torch.tensor([math.log(r) for r in (0.5, 0.85, 1.0, 1.15, 20.0, 0.05)])[:, None]
    made = ratio_numbers(log_ratio, torch.ones(6, 1, dtype=torch.bool), clip=0.2)
    assert made["clip_fraction"].tolist() == [1, 0, 0, 0, 1, 1]
    assert made["ratio_outside_10_percent"].tolist() == [1, 1, 0, 1, 1, 1]
    assert made["ratio_above_10"].tolist() == [0, 0, 0, 0, 1, 0]
    assert made["ratio_below_0_1"].tolist() == [0, 0, 0, 0, 0, 1]
    for name in ("ratio_mean", "ratio_min", "ratio_max"):
        torch.testing.assert_close(made[name], log_ratio[:, 0].exp())


def test_ratio_numbers_of_tokens_look_at_those_that_count():
    log_ratio = torch.tensor([[0.5, 2.0, 20.0, 9.0], [0.9, 7.0, 7.0, 7.0], [3.0, 3.0, 3.0, 3.0]]).log()
    counted = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
    made = ratio_numbers(log_ratio, counted, clip=0.2)
    third = 1 / 3
    for name, expected in {
        "ratio_mean": [22.5 / 3, 0.9, 1.0],
        "ratio_min": [0.5, 0.9, 1.0],
        "ratio_max": [20.0, 0.9, 1.0],
        "clip_fraction": [1.0, 0.0, 0.0],
        "ratio_above_10": [third, 0.0, 0.0],
        "ratio_below_0_1": [0.0, 0.0, 0.0],
    }.items():
        torch.testing.assert_close(made[name], torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_explained_variance():
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(returns + 7, returns) == pytest.approx(1.0)
    assert explained_variance(torch.zeros(3), returns) == pytest.approx(0.0)
    assert explained_variance(-returns, returns) == pytest.approx(-3.0)
    assert explained_variance(torch.zeros(2), torch.ones(2)) == 0.0


def test_shapes_that_would_widen_are_refused():
    with pytest.raises(ValueError, match=r"advantages \[3, 1\] do not fit log-ratios \[3\]"):
        policy_loss(torch.zeros(3), torch.zeros(3, 1), clip=0.1, max_ratio=None)
    assert policy_loss(torch.zeros(3, 4), torch.ones(3, 1), clip=0.1, max_ratio=None).shape == (3, 4)


def test_the_score_loss_has_the_gradient_of_reinforce():
    log_pi = torch.tensor([-1.0, -7.0], requires_grad=True)
    score_function_loss(log_pi, torch.tensor([2.0, -0.5])).sum().backward()
    assert log_pi.grad is not None
    assert log_pi.grad.tolist() == [-2.0, 0.5]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("all", [[1, 1, 1, 1], [1, 1, 0, 0]]),
        ("action", [[0, 0, 0, 1], [0, 1, 0, 0]]),
        ("thought_weight", [[0, 0.25, 0.25, 1], [0.5, 1, 0, 0]]),
    ],
)
def test_token_weights_by_role(kind, expected):
    roles = torch.tensor([[F, T, T, A], [T, A, A, T]], dtype=torch.int8)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    assert token_weights(roles, mask, torch.tensor([0.25, 0.5]), kind).tolist() == expected


def test_tokens_are_reduced_by_weight_and_a_row_without_weight_gives_zero():
    losses = torch.tensor([[1.0, 2.0, 4.0], [8.0, 8.0, 8.0]])
    weights = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    assert reduce_tokens(losses, weights, "sum").tolist() == [2.0, 0.0]
    assert reduce_tokens(losses, weights, "mean").tolist() == [pytest.approx(4 / 3), 0.0]


def test_kl_from_a_reference_has_its_minimum_there():
    """As a penalty, `approximate_kl(reference, policy)`: d/d(log p) of r - 1 - log r with r = p_ref / p is 1 - r."""
    reference = torch.tensor([[-1.0, -2.0, -3.0]])
    log_probs = torch.tensor([[-1.0, -1.0, -5.0]], requires_grad=True)
    approximate_kl(reference, log_probs, torch.ones(1, 3, dtype=torch.bool)).sum().backward()
    assert log_probs.grad is not None
    torch.testing.assert_close(log_probs.grad[0], torch.tensor([0.0, 1 - math.exp(-1), 1 - math.exp(2)]))


def test_score_energies_are_the_squared_norms_of_the_gradients():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 7, generator=generator, requires_grad=True)
    log_probs = torch.log_softmax(logits, -1)
    chosen = torch.tensor([0, 3, 6, 2, 2])
    picked = log_probs[torch.arange(5), chosen]
    (gradient,) = torch.autograd.grad(picked.sum(), logits)
    found = score_energies(picked[None], log_probs.exp().square().sum(-1)[None])
    torch.testing.assert_close(found[0], gradient.square().sum(-1))


def test_energies_are_summed_by_span():
    roles = torch.tensor([[F, T, T, A], [A, A, T, T]], dtype=torch.int8)
    mask = torch.tensor([[True] * 4, [True, True, True, False]])
    thought, action = span_energies(torch.tensor([[1.0, 2.0, 4.0, 8.0]] * 2), roles, mask)
    assert thought.tolist() == [6.0, 4.0]
    assert action.tolist() == [8.0, 3.0]
