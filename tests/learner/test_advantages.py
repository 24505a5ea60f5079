import pytest
import torch

from learner.advantages import generalized_advantages, normalize


def slow_advantages(trajectories, gamma, gae_lambda):
    """A_t = sum over l of (gamma * lambda)^l * delta_{t+l}, written out as the paper's infinite sum."""
    out = []
    for rewards, values, bootstrap in trajectories:
        following = [*values[1:], bootstrap]
        deltas = [r + gamma * n - v for r, v, n in zip(rewards, values, following, strict=True)]
        for t in range(len(rewards)):
            out.append(sum((gamma * gae_lambda) ** (k - t) * deltas[k] for k in range(t, len(deltas))))
    return out


TRAJECTORIES = [
    ([0.0, -1.0, 1.0], [0.2, 0.4, -0.3], 0.0),  # terminated
    ([0.5, 0.0], [1.0, 2.0], 3.0),  # cut: the next state is worth 3
    ([2.0], [0.5], -1.5),  # one truncated row
    ([10.0], [0.0], 0.0),  # one terminated row
]


def flat(trajectories):
    rewards = torch.tensor([r for t in trajectories for r in t[0]])
    values = torch.tensor([v for t in trajectories for v in t[1]])
    last_rows, row = [], -1
    for t in trajectories:
        row += len(t[0])
        last_rows.append(row)
    return rewards, values, last_rows, torch.tensor([t[2] for t in trajectories])


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("gae_lambda", [0.0, 0.95, 1.0])
def test_equal_to_the_sum_of_the_paper(gamma, gae_lambda):
    rewards, values, last_rows, bootstrap = flat(TRAJECTORIES)
    advantages, returns = generalized_advantages(
        rewards, values, last_rows, bootstrap, gamma=gamma, gae_lambda=gae_lambda
    )
    expected = slow_advantages(TRAJECTORIES, gamma, gae_lambda)
    torch.testing.assert_close(advantages, torch.tensor(expected))
    torch.testing.assert_close(returns, torch.tensor(expected) + values)


def test_by_hand():
    # delta_1 = 1 - 0.5 = 0.5; delta_0 = 0 + 0.5 * 0.5 - 0.25 = 0; A_0 = 0 + 0.5 * 0.5 * 0.5
    advantages, returns = generalized_advantages(
        torch.tensor([0.0, 1.0]), torch.tensor([0.25, 0.5]), [1], torch.zeros(1), gamma=0.5, gae_lambda=0.5
    )
    assert advantages.tolist() == [0.125, 0.5]
    assert returns.tolist() == [0.375, 1.0]


def test_a_truncated_end_differs_from_a_terminated_one_by_the_discounted_bootstrap():
    kwargs = {"gamma": 0.9, "gae_lambda": 0.95}
    reward, value = torch.tensor([1.0]), torch.tensor([0.5])
    terminated, _ = generalized_advantages(reward, value, [0], torch.tensor([0.0]), **kwargs)
    truncated, _ = generalized_advantages(reward, value, [0], torch.tensor([2.0]), **kwargs)
    assert float(truncated - terminated) == pytest.approx(0.9 * 2.0)


def test_lambda_one_gives_discounted_returns_whatever_the_critic_says():
    rewards = torch.tensor([1.0, 2.0, 3.0])
    for values in (torch.zeros(3), torch.tensor([5.0, -7.0, 2.0])):
        _, returns = generalized_advantages(rewards, values, [2], torch.zeros(1), gamma=0.5, gae_lambda=1.0)
        torch.testing.assert_close(returns, torch.tensor([2.75, 3.5, 3.0]))


@pytest.mark.parametrize(("last_rows", "bootstraps"), [([], 0), ([0], 1), ([1], 2), ([0, 1, 2], 3)])
def test_lengths_that_do_not_fit_are_refused(last_rows, bootstraps):
    with pytest.raises(ValueError, match="do not belong together"):
        generalized_advantages(
            torch.zeros(2), torch.zeros(2), last_rows, torch.zeros(bootstraps), gamma=0.9, gae_lambda=0.9
        )


def test_normalize_uses_the_unbiased_deviation():
    made = normalize(torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(made, torch.tensor([-1.0, 0.0, 1.0]), atol=2e-5, rtol=0)
    assert normalize(torch.tensor([4.0])).tolist() == [0.0]
    assert normalize(torch.tensor([4.0, 4.0])).tolist() == [0.0, 0.0]
