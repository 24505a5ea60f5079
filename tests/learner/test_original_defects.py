"""The defects of RL4VLM's training loop stay absent; Q-numbers name them in docs/method.md.

Those of the rollout have their tests there: Q-20 (stale prompt) in tests/actors/test_slot.py, Q-25 (equal seeds
everywhere) and Q-27 (steps counted per process) in tests/actors/test_worker.py and tests/cluster/flow/test_capacity.py.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from docs.examples.wrong_prompt import ratios
from learner.algorithms.registry import build_algorithm
from learner.backbone import Backbone
from learner.losses import policy_loss
from learner.rows import gather_rows
from learner.schedules import learning_rate_factor
from protocol.trajectory import EndReason, Frame, TokenRole
from tests.learner.updates import WHOLE, generator, loop_of, rows_of, with_behavior
from tests.learner.world import COMPUTE, config


def of_many_prompts(world):
    """Rows in which every one has a prompt and a picture of its own."""
    texts = ["hit", "a rather longer prompt", "stand", "two words", "x", "+ or -", "last"]
    return [replace(s, prompt_token_ids=world.expanded(t)) for s, t in zip(world.mixed_steps(), texts, strict=True)]


def test_q21_every_sample_is_scored_under_its_own_prompt(world, make_policy):
    policy = make_policy(world)
    steps = with_behavior(policy, world, of_many_prompts(world))
    metrics = loop_of(policy, **WHOLE).update(rows_of(world, steps), policy_version=0, generator=generator())
    assert metrics["ratio_first_minibatch_max_error"] < 1e-4
    # As there, under the first prompt of all, the check would see it.
    wrong = [replace(s, prompt_token_ids=steps[0].prompt_token_ids) for s in steps]
    metrics = loop_of(make_policy(world), **WHOLE).update(
        rows_of(world, wrong), policy_version=0, generator=generator()
    )
    assert metrics["ratio_first_minibatch_max_error"] > 1e-2


def test_q21_the_example_shows_it_on_the_rows_of_a_run(world, make_policy):
    """What docs/examples/wrong_prompt.py prints: the base model's rows under their own prompts, and under the first."""
    policy = make_policy(world)  # its adapter is still without effect
    rows = rows_of(world, with_behavior(policy, world, of_many_prompts(world)))
    backbone = Backbone.load(world.folder, COMPUTE)
    own, first = (
        ratios(backbone, list(world.banned), rows, prompts) for prompts in (rows.prompts, [rows.prompts[0]] * len(rows))
    )
    np.testing.assert_allclose(own, 1, atol=1e-3)
    assert first[0] == pytest.approx(1, abs=1e-3) and np.abs(first[1:] - 1).max() > 1e-2


def test_q22_the_bootstrap_is_the_value_of_the_real_next_state(world, make_policy):
    policy = make_policy(world)
    for parameter in policy.value_parameters().values():
        parameter.data += 0.2
    steps = of_many_prompts(world)
    last = max(i for i, s in enumerate(steps) if s.end_reason is EndReason.CUT)
    estimate = build_algorithm(config(normalize_advantages=False)).estimate

    def advantages(**changes):
        changed = [replace(s, **changes) if i == last else s for i, s in enumerate(steps)]
        return estimate(policy, rows_of(world, changed)).advantages

    found = advantages()
    for changes in (
        {"bootstrap_prompt_token_ids": world.expanded("elsewhere")},
        {"bootstrap_frame_digests": (Frame.of(world.png((0, 5))).digest,)},
    ):
        moved = (advantages(**changes) - found).abs()
        assert float(moved[last]) > 1e-4
        assert float(moved[:3].max()) < 1e-6  # another trajectory, whatever its prompt


def test_q23_gradient_clipping_clips(world, make_policy, monkeypatch):
    norms = []
    original = torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        for group in self.param_groups:
            norms.append(float(torch.stack([p.grad.norm() for p in group["params"]]).norm()))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    metrics = loop_of(make_policy(world), max_grad_norm=1e-3).update(
        rows_of(world, world.mixed_steps()), policy_version=0, generator=generator()
    )
    assert norms
    assert max(norms) <= 1.001e-3
    assert metrics["value_grad_norm"] > 1e-2


def test_q24_the_learning_rate_goes_down_once_and_stays_down():
    rates = [learning_rate_factor("cosine", i, warmup=0, total=25, final=1e-4) for i in range(101)]
    assert all(b <= a for a, b in zip(rates, rates[1:], strict=False))
    assert rates[12] > 0.5 > rates[13]  # half-way at half the updates, however many processes there are
    assert rates[25:] == pytest.approx([1e-4] * 76)


def test_q26_a_minibatch_of_many_is_the_mean_of_minibatches_of_one(world, make_policy, recorded):
    """Responses of different lengths whose action spans stand at different places."""
    steps = []
    for i, length in enumerate([3, 14, 6, 9]):
        roles = np.full(length, TokenRole.THOUGHT, dtype=np.int8)
        roles[-1 - i % 3 :] = TokenRole.ACTION
        tokens = world.response((1, 4))[:length]
        steps.append(
            world.step(
                trajectory=str(i),
                response_token_ids=tokens,
                token_roles=roles,
                behavior_log_probs=np.zeros(length, np.float32),
                reward=float(i) - 1.5,
            )
        )
    steps = with_behavior(make_policy(world), world, steps)
    settings: dict[str, Any] = {**WHOLE, "normalize_advantages": False, "clip": 0.9, "max_ratio": None}
    for part in (steps, *([step] for step in steps)):
        rows = gather_rows([world.batch(part)])
        loop_of(make_policy(world), **settings).update(rows, policy_version=0, generator=generator())
    together, *single = recorded
    for found, *parts in zip(together, *single, strict=True):
        torch.testing.assert_close(found, torch.stack(parts).mean(0), atol=1e-6, rtol=1e-4)
    assert max(float(g.abs().max()) for g in together) > 1e-4


def test_q26_ratios_and_advantages_never_make_a_square():
    with pytest.raises(ValueError, match=r"advantages \[4, 1\] do not fit log-ratios \[4\]"):
        policy_loss(torch.zeros(4), torch.ones(4, 1), clip=0.1, max_ratio=10.0)
