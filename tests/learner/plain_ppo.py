"""PPO in one piece, as the learner was before it had a choice of algorithms: the oracle for bit-equal updates."""

import math

import numpy as np
import torch

from learner.advantages import generalized_advantages, normalize
from learner.batching import collate, microbatches, pad_right
from learner.targets import state_values
from protocol.trajectory import TokenRole


def span_sums(log_probs, roles, mask, thought_weight):
    thought = (log_probs * (mask & (roles == TokenRole.THOUGHT))).sum(-1)
    action = (log_probs * (mask & (roles == TokenRole.ACTION))).sum(-1)
    return thought_weight * thought + action


def plain_targets(policy, rows, ppo, budget):
    boot = [i for i, prompt in enumerate(rows.bootstrap_prompts) if prompt is not None]
    values = state_values(
        policy,
        [*rows.prompts, *(rows.bootstrap_prompts[i] for i in boot)],
        [*rows.digests, *(rows.bootstrap_digests[i] for i in boot)],
        rows.frames,
        budget,
    )
    bootstrap = torch.zeros(len(rows.last_rows))
    bootstrap[boot] = values[len(rows) :]
    old = values[: len(rows)]
    rewards = torch.tensor(rows.rewards) * ppo.reward_scale
    advantages, returns = generalized_advantages(
        rewards, old, rows.last_rows.tolist(), bootstrap, gamma=ppo.gamma, gae_lambda=ppo.gae_lambda
    )
    return normalize(advantages), returns


def plain_update(policy, optimizer, rows, ppo, budget, generator):
    """One update with the settings of `ppo` that RL4VLM had."""
    policy.backbone.vision.clear()
    advantages, returns = plain_targets(policy, rows, ppo, budget)
    torch.randint(2**62, (), generator=generator)  # the seed of a dropout that is not there
    parts = math.ceil(len(rows) / ppo.minibatch_size)
    for _ in range(ppo.epochs):
        for minibatch in torch.randperm(len(rows), generator=generator).tensor_split(parts):
            for group in microbatches(rows.lengths, minibatch.numpy(), budget, rows.state):
                batch = collate(rows, group, policy.backbone.pad_id)
                behavior = pad_right([rows.behavior_log_probs[i] for i in group], np.dtype(np.float32))[0]
                roles = pad_right([rows.roles[i] for i in group], np.dtype(np.int8))[0]
                made = policy.evaluate(batch)
                new = span_sums(made.tokens.log_probs, roles, batch.response_mask, ppo.thought_weight)
                old = span_sums(behavior, roles, batch.response_mask, ppo.thought_weight)
                ratio = (new - old).clamp(max=20.0).exp()
                own = advantages[torch.from_numpy(group)]
                clamped = ratio.clamp(1 - ppo.clip, 1 + ppo.clip) * own
                surrogate = torch.minimum(ratio * own, clamped)
                surrogate = torch.where(ratio > ppo.max_ratio, clamped, surrogate)
                value = 0.5 * (made.values - returns[torch.from_numpy(group)]).square()
                ((-surrogate + ppo.value_coefficient * value).sum() / len(minibatch)).backward()
            for parameters in (policy.adapter_parameters(), policy.value_parameters()):
                torch.nn.utils.clip_grad_norm_(list(parameters.values()), ppo.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
