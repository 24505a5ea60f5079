import json
import math

import numpy as np
import pytest
import torch

from learner.algorithms.config import PPOConfig
from learner.batching import collate
from learner.losses import score_energies, span_energies
from learner.span_energies import EnergyProbe, SpanEnergies, probe_energies
from learner.thought_weights import ThoughtWeights, balanced_weight
from protocol.trajectory import TokenRole
from tests.learner.updates import generator, loop_of, rows_of, with_behavior
from tests.learner.world import STATES


def weights_of(update=0, components=("a", "b"), env_ids=None, **settings):
    made = ThoughtWeights(PPOConfig(**settings))
    return made.of_rows(components, env_ids or ["env"] * len(components), update).tolist()


def test_one_fixed_weight_for_all():
    assert weights_of(update=99, thought_weight=0.25) == [0.25, 0.25]


@pytest.mark.parametrize(("rule", "quarter"), [("linear", 0.25), ("cosine", 0.5 - 0.5 * math.cos(math.pi / 4))])
def test_schedules_go_from_the_weight_to_the_final_one_and_stay(rule, quarter):
    settings = {
        "thought_weight_rule": rule,
        "thought_weight": 1.0,
        "thought_weight_final": 0.5,
        "thought_weight_updates": 8,
    }
    assert weights_of(0, **settings) == [1.0, 1.0]
    assert weights_of(2, **settings)[0] == pytest.approx(1 - 0.5 * quarter)
    assert weights_of(8, **settings) == weights_of(80, **settings) == [0.5, 0.5]


@pytest.mark.parametrize("rule", ["fixed", "linear", "auto"])
def test_a_component_and_an_environment_may_have_their_own(rule):
    settings = {"thought_weight_rule": rule, "thought_weight": 0.5, "thought_weights": {"b": 0.25, "cards": 0.75}}
    found = weights_of(0, ["a", "b", "a", "b"], ["env", "env", "cards", "cards"], **settings)
    assert found == [0.5, 0.25, 0.75, 0.25]  # the component's name comes first


def energies(thought, action):
    return SpanEnergies(np.array(thought), np.array(action))


def test_auto_starts_at_the_configured_weight_and_balances_each_component_by_itself():
    made = ThoughtWeights(PPOConfig(thought_weight_rule="auto", thought_weight=0.3, thought_weight_smoothing=0.0))
    assert made.balances
    assert made.of_rows(["a"], ["e"], 0).tolist() == pytest.approx([0.3])
    made.observe(["a", "b", "a"], energies([16.0, 1.0, 0.0], [1.0, 4.0, 1.0]), None)
    # a: means 8 and 1; b: the thought has less energy than the action, so that nothing is held back.
    assert made.of_rows(["a", "b", "new"], ["e"] * 3, 1).tolist() == pytest.approx([math.sqrt(1 / 8), 1.0, 0.3])
    made.observe(["a"], energies([1e9], [1e-9]), None)
    assert made.of_rows(["a"], ["e"], 2).tolist() == pytest.approx([0.05])


def test_energies_are_averaged_over_updates_before_the_quotient_is_taken():
    made = ThoughtWeights(PPOConfig(thought_weight_rule="auto", thought_weight_smoothing=0.5))
    made.observe(["a"], energies([8.0], [0.0]), None)
    made.observe(["a"], energies([2.0], [3.0]), None)
    # Weights 1/3 and 2/3: (8 + 4) / 3 = 4 and (0 + 6) / 3 = 2.
    assert made.of_rows(["a"], ["e"], 2).tolist() == pytest.approx([math.sqrt(0.5)])


def test_a_probe_carries_the_energies_of_all_components_over_to_the_space_of_weights():
    made = ThoughtWeights(PPOConfig(thought_weight_rule="auto", thought_weight_smoothing=0.5))
    # Thoughts: 4 times as much energy in weights as in logits; actions: half as much.
    probe = EnergyProbe(energies([1.0, 3.0], [4.0, 2.0]), energies([6.0, 10.0], [1.0, 2.0]))
    made.observe(["a", "b"], energies([8.0, 16.0], [4.0, 64.0]), probe)
    assert made.of_rows(["a", "b"], ["e", "e"], 1).tolist() == pytest.approx([math.sqrt(2 / 32), math.sqrt(32 / 64)])
    # Both sides are averaged before they are divided. Thoughts: (8/3 + 2 * 2/3) / 2 = 2; actions: 1.5 / 3.
    later = EnergyProbe(energies([2.0], [3.0]), energies([2.0], [1.5]))
    made.observe(["a"], energies([8.0], [4.0]), later)
    assert made.of_rows(["a"], ["e"], 2).tolist() == pytest.approx([math.sqrt(4 * 0.5 / (8 * 2.0))])


def test_a_probe_that_shows_nothing_of_one_span_corrects_neither():
    made = ThoughtWeights(PPOConfig(thought_weight_rule="auto"))
    made.observe(["a"], energies([8.0], [2.0]), EnergyProbe(energies([1.0], [0.0]), energies([9.0], [0.0])))
    assert made.of_rows(["a"], ["e"], 1).tolist() == [0.5]


def test_the_state_reads_back_bit_for_bit():
    settings = PPOConfig(thought_weight_rule="auto")
    first, second = ThoughtWeights(settings), ThoughtWeights(settings)
    probe = EnergyProbe(energies([0.1], [0.2]), energies([0.7], [0.3]))
    first.observe(["a", "b"], energies([0.1, 0.7], [0.05, 0.3]), probe)
    second.load_state(json.loads(json.dumps(first.state())))
    for made in (first, second):
        made.observe(["a"], energies([0.3], [0.2]), probe)
    assert second.state() == first.state()
    assert second.of_rows(["a", "b"], ["e", "e"], 0).tolist() == first.of_rows(["a", "b"], ["e", "e"], 0).tolist()


@pytest.mark.parametrize(
    ("thought", "action", "weight"), [(0, 0, 1), (0, 1, 1), (4, 1, 0.5), (100, 1, 0.2), (1, 0, 0.2)]
)
def test_the_balanced_weight_stays_between_its_bounds(thought, action, weight):
    assert balanced_weight(thought, action, minimum=0.2) == weight


def test_the_balance_of_known_distributions():
    """Spans of 5 and 2 tokens from fixed distributions p and q: lambda^2 = 2 (1 - sum q^2) / (5 (1 - sum p^2)),
    because E[1 - 2 p_y + sum p^2] = 1 - sum p^2, whatever the advantages, if they do not depend on the tokens."""
    p, q = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.tensor([0.9, 0.05, 0.05, 0.0])
    rows, draw = 20_000, torch.Generator().manual_seed(0)
    thought = torch.multinomial(p, 5 * rows, replacement=True, generator=draw).view(rows, 5)
    action = torch.multinomial(q, 2 * rows, replacement=True, generator=draw).view(rows, 2)
    log_probs = torch.cat([p[thought], q[action]], 1).log()
    collisions = torch.tensor([float((p * p).sum())] * 5 + [float((q * q).sum())] * 2).expand(rows, 7)
    roles = torch.tensor([TokenRole.THOUGHT] * 5 + [TokenRole.ACTION] * 2, dtype=torch.int8).expand(rows, 7)
    spans = span_energies(score_energies(log_probs, collisions), roles, torch.ones(rows, 7, dtype=torch.bool))
    squared = (3 * torch.randn(rows, generator=draw)).square()
    made = ThoughtWeights(PPOConfig(thought_weight_rule="auto"))
    made.observe(["a"] * rows, SpanEnergies(*((squared * span).double().numpy() for span in spans)), None)
    expected = math.sqrt(2 * (1 - float((q * q).sum())) / (5 * (1 - float((p * p).sum()))))
    assert made.of_rows(["a"], ["e"], 1)[0] == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("scale", "unprobed"), [(0.05, 1.3), (0.3, 6.0)])
def test_spans_then_have_gradients_of_like_size(world, make_policy, scale, unprobed):
    """In the space of adapter weights, over rows that the policy sampled: lambda^2 E[A^2 |s_thought|^2] over
    E[A^2 |s_action|^2], which without a weight is far above 1 (ten thought tokens to two action tokens). The space of
    logits alone comes near where the adapter is small, and the probe corrects what is left."""
    policy = moved(make_policy(world), scale)
    rows = sampled_rows(policy, world, count=24, tokens=12)
    advantages = torch.randn(len(rows), generator=generator())
    true = probe_energies(policy, rows, np.arange(24), advantages)
    quotient = true.weights.thought.mean() / true.weights.action.mean()
    assert quotient > 2.5
    for probe, factor in ((true, 1.000001), (None, unprobed)):
        made = ThoughtWeights(PPOConfig(thought_weight_rule="auto", thought_weight_minimum=0.0))
        made.observe(["a"] * 24, true.logits, probe)
        weight = float(made.of_rows(["a"], ["e"], 1)[0])
        assert 1 / factor < weight**2 * quotient < factor


def test_a_probe_is_the_gradient_of_each_row_and_leaves_none_behind(world, make_policy):
    policy = moved(make_policy(world), 0.1)
    rows = rows_of(world, world.mixed_steps())
    found = probe_energies(policy, rows, np.array([5, 0]), torch.arange(7.0))
    assert all(p.grad is None for p in policy.adapter_parameters().values())
    log_probs = policy.log_probs(collate(rows, np.array([5]), policy.backbone.pad_id))[0]
    log_probs[torch.from_numpy(rows.roles[5].copy()) == TokenRole.ACTION].sum().backward()
    total = sum(float(p.grad.square().sum()) for p in policy.adapter_parameters().values() if p.grad is not None)
    assert found.weights.action[0] == pytest.approx(25 * total, rel=1e-4)
    assert found.weights.thought[1] == 0.0  # its advantage is 0


def moved(policy, scale):
    draw = torch.Generator().manual_seed(1)
    for parameter in policy.adapter_parameters().values():
        parameter.data += scale * torch.randn(parameter.shape, generator=draw)
    return policy


def sampled_rows(policy, world, *, count, tokens):
    """Rows whose tokens the policy drew itself, the last two of them as the action."""
    draw, written = generator(), np.empty((count, 0), np.int32)
    for place in range(tokens):
        rows = rows_of(world, steps_of(world, np.append(written, np.full((count, 1), 5, np.int32), 1)))
        batch = collate(rows, np.arange(count), policy.backbone.pad_id)
        with torch.no_grad():
            hidden = policy.backbone.hidden_states(batch)
            states = hidden[:, place]
            logits = policy.backbone.model.lm_head(states).masked_fill(policy.banned_mask, -torch.inf)
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=draw)
        written = np.append(written, drawn.numpy().astype(np.int32), 1)
    return rows_of(world, steps_of(world, written))


def steps_of(world, written):
    return [
        world.step(
            trajectory=str(i),
            state=STATES[i % len(STATES)],
            response_token_ids=tokens,
            behavior_log_probs=np.zeros(len(tokens), np.float32),
            token_roles=np.where(np.arange(len(tokens)) < 10, TokenRole.THOUGHT, TokenRole.ACTION).astype(np.int8),
        )
        for i, tokens in enumerate(written)
    ]


@pytest.mark.parametrize("probe_rows", [0, 3])
def test_the_loop_feeds_the_rule_and_reports_the_weight(world, make_policy, probe_rows):
    settings = {"thought_weight": 0.7, "thought_weight_probe_rows": probe_rows, "learning_rate": 1e-5}
    loop = loop_of(make_policy(world), thought_weight_rule="auto", **settings)
    rows = rows_of(world, with_behavior(make_policy(world), world, world.mixed_steps()))
    found = [loop.update(rows, policy_version=v, generator=generator(v))["thought_weight"] for v in range(2)]
    assert found[0] == pytest.approx(0.7)
    if probe_rows:
        assert 0.05 <= found[1] < 1.0
    else:  # two action tokens of a fresh model against twelve: energies are near 1 each, whatever A^2 is
        assert {len(r) for r in rows.responses} == {14}
        assert found[1] ** 2 == pytest.approx(2 / 12, rel=0.2)
