import pytest
import torch

from learner.rows import gather_rows
from learner.targets import state_values


@pytest.fixture
def policy(world, make_policy):
    policy = make_policy(world)
    for parameter in policy.value_parameters().values():
        parameter.data += 0.2
    return policy


@pytest.fixture
def rows(world):
    return gather_rows([world.batch(world.mixed_steps())])


def test_values_do_not_depend_on_the_token_budget(policy, rows):
    one_by_one, together = (
        state_values(policy, rows.prompts, rows.digests, rows.frames, budget) for budget in (1, 10_000)
    )
    torch.testing.assert_close(one_by_one, together)
    assert len(set(together.tolist())) > 1


def test_equal_states_are_valued_once_and_told_apart_by_frame(policy, rows, monkeypatch):
    sizes = []
    original = policy.values
    monkeypatch.setattr(policy, "values", lambda batch: sizes.append(len(batch.input_ids)) or original(batch))
    prompts = [rows.prompts[0], rows.prompts[1], rows.prompts[0]]
    values = state_values(policy, prompts, [rows.digests[i] for i in (0, 1, 0)], rows.frames, 4096)
    assert sum(sizes) == 2
    assert values[0] == values[2] != values[1]
