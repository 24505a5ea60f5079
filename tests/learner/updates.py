"""What tests of updates share: rows that a policy sampled, and loops with a few settings."""

from dataclasses import replace

import numpy as np
import torch

from learner.batching import collate
from learner.rows import gather_rows
from learner.update import UpdateLoop
from tests.learner.world import config

WHOLE = {"minibatch_size": 100, "epochs": 1, "max_grad_norm": 1e9}
"""One optimizer step over all rows, unclipped."""


def rows_of(world, steps):
    return gather_rows([world.batch(steps)])


def with_behavior(policy, world, steps):
    """The same steps with this policy's own log-probs, each computed in a batch of its own."""
    made = []
    for step in steps:
        rows = rows_of(world, [step])
        with torch.no_grad():
            log_probs = policy.log_probs(collate(rows, np.array([0]), policy.backbone.pad_id))
        made.append(replace(step, behavior_log_probs=log_probs[0].numpy()))
    return made


def loop_of(policy, budget=256, sections=None, **ppo):
    settings = config(sections, **ppo)
    return UpdateLoop(
        policy,
        settings.model_copy(update={"compute": settings.compute.model_copy(update={"micro_batch_tokens": budget})}),
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def shifted_rows(world, make_policy, versions):
    """Rows of the fresh policy whose sampler was off by 0.1 nats at every token; their versions in turn."""
    steps = with_behavior(make_policy(world), world, world.mixed_steps())
    return rows_of(
        world,
        [
            replace(s, behavior_log_probs=s.behavior_log_probs - 0.1, policy_version=versions[i % len(versions)])
            for i, s in enumerate(steps)
        ],
    )
