"""Policy losses against loops over rows and tokens, on ratios and weights that straddle every bound."""

import math

import pytest
import torch

from learner.algorithms.base import ScoredRows
from learner.algorithms.response_loss import ClippedResponseLoss, ResponseScoreLoss
from learner.algorithms.token_loss import ClippedTokenLoss
from learner.importance import Correction
from learner.losses import response_log_probs
from protocol.trajectory import TokenRole

T, A, F = TokenRole.THOUGHT, TokenRole.ACTION, TokenRole.FORMAT
ROLES = torch.tensor([[F, T, T, A, A], [T, A, T, T, T], [T, T, T, A, F], [T, T, F, F, F]], dtype=torch.int8)
LENGTHS = [5, 2, 5, 2]
MASK = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
LAMBDA = torch.tensor([0.5, 0.25, 0.0, 1.0])
ADVANTAGES = torch.tensor([1.5, -2.0, -1.0, 0.7])


def scored(*, corrected: bool) -> ScoredRows:
    """New minus old differ by up to 3 nats, old minus sampled by up to 1."""
    generator = torch.Generator().manual_seed(4)
    behavior = -torch.rand(4, 5, generator=generator) * MASK
    old = (behavior + torch.randn(4, 5, generator=generator)) * MASK if corrected else behavior
    new = ((old + torch.randn(4, 5, generator=generator)) * MASK).requires_grad_()
    return ScoredRows(
        log_probs=new,
        old_log_probs=old,
        log_weights=old - behavior if corrected else None,
        roles=ROLES,
        response_mask=MASK,
        thought_weights=LAMBDA,
        new=response_log_probs(new, ROLES, MASK, LAMBDA),
        old=response_log_probs(old, ROLES, MASK, LAMBDA),
    )


def slow_weight(log_weight, correction):
    if correction is None:
        return 1.0
    weight = math.exp(log_weight)
    if correction.mode == "truncated":
        return min(weight, correction.threshold)
    if correction.mode == "masked" and not 1 / correction.threshold <= weight <= correction.threshold:
        return 0.0
    return weight


def slow_clip(ratio, advantage, clip, max_ratio):
    clipped = min(max(ratio, 1 - clip), 1 + clip) * advantage
    return -clipped if ratio > max_ratio else -min(ratio * advantage, clipped)


def token_lambda(row, token):
    role = TokenRole(int(ROLES[row, token]))
    return {T: float(LAMBDA[row]), A: 1.0, F: 0.0}[role]


CORRECTIONS = [None, Correction("full", 2.0), Correction("truncated", 1.3), Correction("masked", 1.8)]


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_clipped_response_loss(correction):
    rows = scored(corrected=correction is not None)
    found = ClippedResponseLoss(0.2, 3.0, correction)(rows, ADVANTAGES)
    for row, length in enumerate(LENGTHS):
        log_ratio = log_weight = 0.0
        for token in range(length):
            weight = token_lambda(row, token)
            log_ratio += weight * float((rows.log_probs - rows.old_log_probs)[row, token].detach())
            log_weight += weight * float(rows.log_weights[row, token]) if rows.log_weights is not None else 0.0
        expected = slow_clip(math.exp(log_ratio), float(ADVANTAGES[row]), 0.2, 3.0)
        assert float(found[row].detach()) == pytest.approx(slow_weight(log_weight, correction) * expected, rel=1e-4)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_response_score_loss(correction):
    rows = scored(corrected=correction is not None)
    found = ResponseScoreLoss(correction)(rows, ADVANTAGES)
    for row, length in enumerate(LENGTHS):
        log_pi = sum(token_lambda(row, t) * float(rows.log_probs[row, t].detach()) for t in range(length))
        log_weight = 0.0
        if rows.log_weights is not None:
            log_weight = sum(token_lambda(row, t) * float(rows.log_weights[row, t]) for t in range(length))
        expected = slow_weight(log_weight, correction) * -float(ADVANTAGES[row]) * log_pi
        assert float(found[row].detach()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("weights", ["all", "action", "thought_weight"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_clipped_token_loss(correction, weights, reduction):
    rows = scored(corrected=correction is not None)
    loss = ClippedTokenLoss(0.2, 3.0, weights, reduction, correction)
    found = loss(rows, ADVANTAGES)
    for row, length in enumerate(LENGTHS):
        total = counted = 0.0
        for token in range(length):
            weight = {
                "all": 1.0,
                "action": float(ROLES[row, token] == A),
                "thought_weight": token_lambda(row, token),
            }[weights]
            ratio = math.exp(float((rows.log_probs - rows.old_log_probs)[row, token].detach()))
            log_weight = float(rows.log_weights[row, token]) if rows.log_weights is not None else 0.0
            one = slow_clip(ratio, float(ADVANTAGES[row]), 0.2, 3.0) * slow_weight(log_weight, correction)
            total, counted = total + weight * one, counted + weight
        expected = total if reduction == "sum" else total / counted if counted else 0.0
        assert float(found[row].detach()) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    "loss", [ClippedResponseLoss(0.2, 10.0, None), ClippedTokenLoss(0.2, 10.0, "all", "mean", None)]
)
def test_padding_has_no_gradient(loss):
    rows = scored(corrected=False)
    loss(rows, ADVANTAGES).sum().backward()
    assert rows.log_probs.grad is not None
    assert (rows.log_probs.grad[~MASK] == 0).all()
    assert (rows.log_probs.grad[MASK] != 0).any()


def test_where_all_policies_agree_every_loss_has_the_gradient_of_reinforce():
    """Ratios are 1: d loss / d log p of a token is -A times the token's weight in the loss."""
    behavior = torch.full((4, 5), -1.0) * MASK
    for loss, weight_of in (
        (ClippedResponseLoss(0.2, 10.0, Correction("truncated", 2.0)), token_lambda),
        (ResponseScoreLoss(Correction("masked", 2.0)), token_lambda),
        (ClippedTokenLoss(0.2, 10.0, "all", "sum", Correction("full", 2.0)), lambda row, token: 1.0),
        (ClippedTokenLoss(0.2, 10.0, "all", "mean", None), lambda row, token: 1 / LENGTHS[row]),
    ):
        new = behavior.clone().requires_grad_()
        sums = [response_log_probs(x, ROLES, MASK, LAMBDA) for x in (new, behavior)]
        rows = ScoredRows(new, behavior, torch.zeros(4, 5), ROLES, MASK, LAMBDA, *sums)
        loss(rows, ADVANTAGES).sum().backward()
        assert new.grad is not None
        for row, length in enumerate(LENGTHS):
            expected = [-float(ADVANTAGES[row]) * weight_of(row, t) for t in range(length)]
            assert new.grad[row, :length].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("loss", [ClippedResponseLoss(0.2, 3.0, None), ResponseScoreLoss(None)])
def test_a_response_has_one_ratio(loss):
    rows = scored(corrected=False)
    found, counted = loss.log_ratios(rows)
    assert counted.tolist() == [[True]] * 4
    for row, length in enumerate(LENGTHS):
        difference = (rows.log_probs - rows.old_log_probs).detach()[row]
        expected = sum(token_lambda(row, t) * float(difference[t]) for t in range(length))
        assert float(found[row, 0].detach()) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["all", "action", "thought_weight"])
def test_tokens_have_ratios_of_their_own_and_those_without_weight_do_not_count(kind):
    rows = scored(corrected=False)
    found, counted = ClippedTokenLoss(0.2, 3.0, kind, "mean", None).log_ratios(rows)
    torch.testing.assert_close(found, rows.log_probs - rows.old_log_probs)
    for row, length in enumerate(LENGTHS):
        for token in range(5):
            role = TokenRole(int(ROLES[row, token]))
            weighed = {"all": True, "action": role is A, "thought_weight": token_lambda(row, token) > 0}[kind]
            assert bool(counted[row, token]) == (token < length and weighed)
