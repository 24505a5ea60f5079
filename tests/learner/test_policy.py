import numpy as np
import pytest
import torch

from learner.batching import collate, collate_tokens
from learner.config import LoraConfig
from learner.families.parts import part_of
from learner.rows import gather_rows


@pytest.fixture
def rows(either_world):
    return gather_rows([either_world.batch(either_world.mixed_steps())])


def whole(policy, rows):
    return collate(rows, np.arange(len(rows)), policy.backbone.pad_id)


def perturb(policy, scale=0.3):
    """Move the adapter away from its zero start."""
    generator = torch.Generator().manual_seed(1)
    for parameter in policy.adapter_parameters().values():
        parameter.data += scale * torch.randn(parameter.shape, generator=generator)


def test_a_fresh_policy_is_the_base_model_with_value_zero(either_world, make_policy, reference_of, rows):
    policy = make_policy(either_world)
    with torch.no_grad():
        evaluation = policy.evaluate(whole(policy, rows))
    assert evaluation.values.tolist() == [0.0] * len(rows)
    response = rows.responses[0]
    expected = reference_of(either_world).log_probs(
        rows.prompts[0], response, [rows.frames[rows.digests[0][0]]], banned=either_world.banned
    )
    np.testing.assert_allclose(evaluation.tokens.log_probs[0, : len(response)].numpy(), expected, atol=1e-5)


def test_adapter_off_gives_the_base_log_probs_and_comes_back(either_world, make_policy, rows):
    policy = make_policy(either_world)
    batch = whole(policy, rows)
    with torch.no_grad():
        base = policy.log_probs(batch)
        perturb(policy)
        adapted = policy.log_probs(batch)
        with policy.adapter_off():
            switched_off = policy.log_probs(batch)
        again = policy.log_probs(batch)
    assert torch.equal(switched_off, base)
    assert torch.equal(again, adapted)
    assert (adapted - base).abs().max() > 1e-2
    assert all(p.requires_grad for p in policy.adapter_parameters().values())


def test_only_adapter_and_value_head_are_trained(either_world, make_policy, rows):
    policy = make_policy(either_world)
    perturb(policy)
    for p in policy.value_parameters().values():
        p.data += 0.1
    evaluation = policy.evaluate(whole(policy, rows))
    (evaluation.tokens.log_probs.sum() + evaluation.values.sum()).backward()
    adapter = policy.adapter_parameters()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in adapter.values())
    assert all(p.grad is not None for p in policy.value_parameters().values())
    with_gradient = {n for n, p in policy.peft_model.named_parameters() if p.grad is not None}
    assert with_gradient == set(adapter)


@pytest.mark.parametrize("switch", [False, True])
def test_the_value_gradient_reaches_the_adapter_only_if_switched_on(either_world, make_policy, rows, switch):
    policy = make_policy(either_world, value_gradient_to_backbone=switch)
    perturb(policy)
    for p in policy.value_parameters().values():
        p.data += 0.1
    policy.values(whole(policy, rows)).sum().backward()
    reached = [p.grad is not None and bool(p.grad.abs().max() > 0) for p in policy.adapter_parameters().values()]
    assert any(reached) == switch


def test_values_depend_on_prompt_and_frame_but_not_on_the_response(either_world, make_policy, rows):
    policy = make_policy(either_world)
    for p in policy.value_parameters().values():
        p.data += 0.1
    frames, digests = rows.frames, rows.digests

    def value(prompt, images, response):
        batch = collate_tokens([prompt], [response], [images], frames, policy.backbone.pad_id)
        with torch.no_grad():
            return float(policy.values(batch))

    nothing = np.empty(0, np.int32)
    alone = value(rows.prompts[0], digests[0], nothing)
    assert value(rows.prompts[0], digests[0], rows.responses[0]) == pytest.approx(alone, abs=1e-6)
    assert value(rows.prompts[0], digests[1], nothing) != pytest.approx(alone, abs=1e-4)
    assert value(either_world.expanded("stand"), digests[0], nothing) != pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize(
    ("scope", "parts"),
    [("language", {"language"}), ("language+projector", {"language", "projector"})],
)
def test_lora_targets_set_where_adapters_are_and_whether_vision_is_frozen(either_world, make_policy, scope, parts):
    policy = make_policy(either_world, lora=LoraConfig(rank=2, alpha=2, targets=scope))
    assert {part_of(name) for name in policy.adapter_parameters()} == parts
    assert policy.backbone.vision.frozen == (scope == "language")


def test_vision_adapters_receive_a_gradient(either_world, make_policy, rows):
    policy = make_policy(either_world, lora=LoraConfig(rank=2, alpha=2, targets="all"))
    perturb(policy)
    policy.log_probs(whole(policy, rows)).sum().backward()
    vision = [p for n, p in policy.adapter_parameters().items() if part_of(n) == "vision"]
    assert vision
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in vision)


def test_seeds_decide_the_initial_weights_and_leave_torch_alone(world, make_policy):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = make_policy(world, seed=1), make_policy(world, seed=1), make_policy(world, seed=2)
    assert torch.equal(torch.rand(3), expected)

    def weights(policy):
        parameters = [*policy.adapter_parameters().values(), *policy.value_parameters().values()]
        return torch.cat([p.detach().flatten() for p in parameters])

    assert torch.equal(weights(one), weights(same))
    assert not torch.equal(weights(one), weights(other))


def test_dropout_is_active_inside_its_context_only(world, make_policy):
    policy = make_policy(world, lora=LoraConfig(rank=4, alpha=8, dropout=0.5))
    perturb(policy)
    rows = gather_rows([world.batch(world.mixed_steps())])
    batch = whole(policy, rows)
    with torch.no_grad():
        assert torch.equal(policy.log_probs(batch), policy.log_probs(batch))
        with policy.adapter_dropout(seed=0):
            assert not torch.equal(policy.log_probs(batch), policy.log_probs(batch))
        assert torch.equal(policy.log_probs(batch), policy.log_probs(batch))
