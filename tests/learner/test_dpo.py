"""Direct preference optimisation: its loss in numbers, its gradient against the plain formula, and that it works."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from learner.dpo import PreferenceTrainer, preference_losses, run_dpo
from learner.pairs import Pairs
from learner.stage_settings import DPOConfig, PairConfig
from protocol.codec import decode_steps
from protocol.errors import TrajectoryError
from protocol.trajectory import NO_DIGEST, TokenRole
from tests.learner.sampled import collected, episode, step
from tests.learner.test_policy import perturb
from tests.learner.updates import rows_of
from tests.learner.world import LORA, Reference, World, config

SIGMOID_1 = 1 / (1 + math.exp(-1.0))
QUICK = DPOConfig(steps=15, batch_size=4, learning_rate=1e-2, warmup_steps=2, beta=0.5)
STATES = [(1, 4), (4, 1), (0, 5), (5, 2)]


@pytest.mark.parametrize(
    ("chosen", "rejected", "loss"),
    [
        (0.0, 0.0, math.log(2)),  # the fresh adapter
        (2.0, 0.0, -math.log(SIGMOID_1)),  # beta * 2 = 1
        (0.0, 2.0, -math.log(1 - SIGMOID_1)),
        (-3.0, -5.0, -math.log(SIGMOID_1)),  # both fell: only the difference counts
        (200.0, 0.0, 0.0),
        (0.0, 200.0, 100.0),  # far out the loss is linear, and finite
    ],
)
def test_the_loss_in_numbers(chosen, rejected, loss):
    made = preference_losses(
        torch.tensor([chosen - 7.0]),
        torch.tensor([rejected - 1.0]),
        torch.tensor([-7.0]),
        torch.tensor([-1.0]),
        beta=0.5,
    )
    assert float(made.loss) == pytest.approx(loss, abs=1e-5)
    assert float(made.chosen_reward) == pytest.approx(0.5 * chosen)
    assert float(made.rejected_reward) == pytest.approx(0.5 * rejected)


def preferences(world):
    """Four states with a right and a wrong answer each, of different lengths."""
    episodes = []
    for number, state in enumerate(STATES):
        right, wrong = ("+", "-") if state[0] < state[1] else ("-", "+")
        for sign, reward in ((right, 1.0), (wrong, -1.0)):
            text = f"{state[0]} and {state[1]}: {sign}" if number % 2 else f"so {sign}"
            own = step(world, state, sign, reward, text=text, temperature=0.5 + number)
            roles = np.full(len(own.response_token_ids), TokenRole.THOUGHT, np.int8)
            roles[0], roles[-1] = TokenRole.FORMAT, TokenRole.ACTION
            episodes.append(episode(f"{number}{sign}", replace(own, token_roles=roles)))
    return collected(world, *episodes)


def weights_of(roles, tokens, thought_weight):
    if tokens == "all":
        return np.ones(len(roles))
    thought = thought_weight if tokens == "thought_weight" else 0.0
    return np.select([roles == TokenRole.ACTION, roles == TokenRole.THOUGHT], [1.0, thought], 0.0)


def plain_loss(world, policy, rows, pairs, settings, thought_weight):
    """Equation 7 written out, row by row: mean over pairs, with gradient."""
    from learner.batching import collate

    def one(row):
        return policy.log_probs(collate(rows, np.array([row]), policy.backbone.pad_id))[0]

    def total(row):
        weights = torch.tensor(weights_of(rows.roles[row], settings.tokens, thought_weight))
        with torch.no_grad(), policy.adapter_off():
            reference = one(row)
        return ((one(row) - reference) * weights).sum()

    losses = []
    for chosen, rejected in zip(pairs.chosen.tolist(), pairs.rejected.tolist(), strict=True):
        margin = settings.beta * (total(chosen) - total(rejected))
        losses.append(-torch.log(1 / (1 + torch.exp(-margin))) - settings.nll_coefficient * one(chosen).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("tokens", ["all", "action", "thought_weight"])
@pytest.mark.parametrize("budget", [1, 4096])
def test_the_gradient_is_that_of_the_plain_formula(world, make_policy, tokens, budget):
    policy = make_policy(world, seed=1)
    perturb(policy, 0.05)  # away from the reference, where every margin is 0
    _, rows, _ = preferences(world)
    pairs = Pairs(np.array([0, 2, 4]), np.array([1, 3, 5]), 3)
    settings = QUICK.model_copy(update={"tokens": tokens, "nll_coefficient": 0.3})
    learner = config({"compute": {"device": "cpu", "micro_batch_tokens": budget}}, thought_weight=0.3)
    trainer = PreferenceTrainer(policy, rows, pairs, settings, learner)
    metrics = trainer._accumulate(np.arange(3))
    gradients = {name: p.grad.clone() for name, p in policy.adapter_parameters().items() if p.grad is not None}
    for parameter in policy.adapter_parameters().values():
        parameter.grad = None
    loss = plain_loss(world, policy, rows, pairs, settings, 0.3)
    loss.backward()
    assert metrics["loss"] == pytest.approx(float(loss.detach()), abs=1e-5)
    assert gradients
    for name, parameter in policy.adapter_parameters().items():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-3)


def test_every_environment_has_its_own_lambda(world, make_policy):
    batches, _, _ = preferences(world)
    steps = [s for batch in batches for s in decode_steps(batch.steps)]
    # The sign is what differs between the responses of a pair: let it be a thought.
    roles = [np.where(s.token_roles == TokenRole.ACTION, TokenRole.THOUGHT, s.token_roles) for s in steps]
    steps = [replace(s, task=("a/x", "b")[i % 4 // 2], token_roles=roles[i]) for i, s in enumerate(steps)]
    rows = rows_of(world, steps)
    pairs = Pairs(np.array([0, 2]), np.array([1, 3]), 2)
    settings = QUICK.model_copy(update={"tokens": "thought_weight"})

    def losses(**ppo):
        policy = make_policy(world, seed=1)
        perturb(policy, 0.05)
        return PreferenceTrainer(policy, rows, pairs, settings, config(**ppo)).losses(np.arange(2))[0].tolist()

    together = losses(thought_weights={"a": 0.1, "b": 0.9})
    assert together == pytest.approx([losses(thought_weight=0.1)[0], losses(thought_weight=0.9)[1]])
    assert losses(thought_weight=0.1)[1] != pytest.approx(together[1], abs=1e-3)


def test_the_first_step_starts_at_the_reference(world, make_policy):
    _, rows, _ = preferences(world)
    trainer = PreferenceTrainer(make_policy(world), rows, Pairs(np.array([0]), np.array([1]), 1), QUICK, config())
    loss, numbers = trainer.losses(np.array([0]))
    assert float(loss.detach()) == pytest.approx(math.log(2), abs=1e-6)
    assert float(numbers["margin"]) == float(numbers["reference_kl"]) == 0.0


def test_right_answers_become_likelier_than_wrong_ones_and_the_result_is_a_plain_folder(either_world, tmp_path):
    world = either_world
    batches, rows, _ = preferences(world)
    seen = []
    metrics = run_dpo(
        world.folder,
        batches,
        QUICK,
        PairConfig(),
        config({"lora": LORA}),
        world.banned,
        seed=0,
        out_dir=tmp_path / "model",
        published={0: NO_DIGEST},
        on_step=lambda number, own: seen.append((number, own["loss"])),
    )
    assert [number for number, _ in seen] == list(range(1, 16))
    assert metrics["first_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert metrics["loss"] < 0.4 and metrics["accuracy"] > 0.9
    assert (metrics["pairs"], metrics["states"]) == (4.0, 4.0)
    assert metrics["margin"] == pytest.approx(metrics["chosen_reward"] - metrics["rejected_reward"], abs=1e-4)
    assert {p.name for p in (tmp_path / "model").iterdir()} == {p.name for p in world.folder.iterdir()}
    assert {p.name for p in (tmp_path / "adapter").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    after, before = Reference(World(tmp_path / "model")), Reference(world)

    def margin(model, pair):
        right, wrong = (
            model.log_probs(
                rows.prompts[row], rows.responses[row], [world.png(STATES[pair])], banned=world.banned
            ).sum()
            for row in (2 * pair, 2 * pair + 1)
        )
        return right - wrong

    assert all(margin(after, pair) > margin(before, pair) + 0.5 for pair in range(4))


def test_only_the_adapters_layers_differ_in_the_result(world, tmp_path):
    batches, _, _ = preferences(world)
    arguments = (QUICK.model_copy(update={"steps": 2}), PairConfig(), config(), world.banned)
    run_dpo(world.folder, batches, *arguments, seed=0, out_dir=tmp_path / "a", published={0: NO_DIGEST})
    run_dpo(world.folder, batches, *arguments, seed=0, out_dir=tmp_path / "b", published={0: NO_DIGEST})
    old, one, two = (
        dict(AutoModelForImageTextToText.from_pretrained(folder).named_parameters())
        for folder in (world.folder, tmp_path / "a", tmp_path / "b")
    )
    moved = {name for name in old if not torch.equal(old[name], one[name])}
    assert moved and all("language_model" in name and name.endswith("proj.weight") for name in moved)
    assert all(torch.equal(one[name], two[name]) for name in one), "the same seed, the same weights"


def test_rows_of_unknown_policies_are_refused_before_training(world, tmp_path):
    batches, _, _ = preferences(world)
    with pytest.raises(TrajectoryError, match="no adapter that this learner published"):
        run_dpo(
            world.folder,
            batches,
            QUICK,
            PairConfig(),
            config(),
            (),
            seed=0,
            out_dir=tmp_path / "a",
            published={9: NO_DIGEST},
        )
    assert not (tmp_path / "a").exists()
