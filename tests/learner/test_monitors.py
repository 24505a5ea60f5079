from dataclasses import replace

import numpy as np
import pytest

from learner.monitors import duplicate_thoughts, image_dependence
from learner.preparation import sampled_log_probs
from protocol.trajectory import TokenRole
from tests.learner.updates import generator, loop_of, rows_of
from tests.learner.world import STATES

T, A = TokenRole.THOUGHT, TokenRole.ACTION


def written(world, name, state, tokens, roles, **changes):
    return world.step(
        trajectory=name,
        state=state,
        response_token_ids=np.array(tokens, np.int32),
        token_roles=np.array(roles, np.int8),
        behavior_log_probs=np.zeros(len(tokens), np.float32),
        **changes,
    )


def test_a_thought_counts_as_repeated_only_under_another_state(world):
    a, b = STATES[:2]
    steps = [
        written(world, "0", a, [5, 6, 9], [T, T, A]),
        written(world, "1", b, [5, 6, 8], [T, T, A]),  # the same thought in another state
        written(world, "2", a, [7, 6, 9], [T, T, A]),
        written(world, "3", a, [7, 6, 8], [T, T, A]),  # the same in the same state: no sign of anything
        written(world, "4", b, [9], [A]),  # no thought at all
        written(world, "5", a, [9], [A]),
        written(world, "6", b, [5, 9, 6], [T, A, A]),
    ]
    assert duplicate_thoughts(rows_of(world, steps)) == pytest.approx(2 / 5)
    assert duplicate_thoughts(rows_of(world, steps[4:6])) is None


def test_another_prompt_is_another_state(world):
    steps = [written(world, str(i), STATES[0], [5, 6], [T, A]) for i in range(2)]
    assert duplicate_thoughts(rows_of(world, steps)) == 0.0
    steps[1] = replace(steps[1], prompt_token_ids=world.expanded("another"))
    assert duplicate_thoughts(rows_of(world, steps)) == 1.0


def image_rows(world, states=STATES):
    return rows_of(world, [world.step(trajectory=str(i), state=state) for i, state in enumerate(states)])


def dependence(policy, rows, sample_rows=100):
    return image_dependence(policy, rows, sample_rows=sample_rows, token_budget=4096, generator=generator())


def test_the_shuffle_test_by_hand(either_world, make_policy):
    """Two rows swap their pictures: the drop is that of rows written with the other's picture."""
    policy, states = make_policy(either_world), STATES[:2]
    steps = [either_world.step(trajectory=str(i), state=state) for i, state in enumerate(states)]
    swapped = [replace(s, frame_digests=steps[1 - i].frame_digests) for i, s in enumerate(steps)]
    own, other = (
        sampled_log_probs(policy, rows_of(either_world, made), np.arange(2), 4096) for made in (steps, swapped)
    )
    drops = [(np.array(a) - np.array(b))[s.token_roles == T] for a, b, s in zip(own, other, steps, strict=True)]
    found = dependence(policy, rows_of(either_world, steps))
    assert found["image_dependence_rows"] == 2
    assert found["thought_image_dependence"] == pytest.approx(float(np.concatenate(drops).mean()), rel=1e-4, abs=1e-6)
    assert abs(found["thought_image_dependence"]) > 1e-5


def test_rows_that_keep_their_picture_are_not_counted(world, make_policy):
    policy = make_policy(world)
    assert dependence(policy, image_rows(world, [(1, 4)] * 5)) == {}
    assert dependence(policy, image_rows(world, STATES), sample_rows=1) == {}
    assert dependence(policy, image_rows(world), sample_rows=3)["image_dependence_rows"] == 3


def test_pictures_are_passed_on_among_prompts_of_equal_image_tokens_only(world, make_policy):
    two = tuple(d for state in STATES[:2] for d in world.step(state=state).frame_digests)
    steps = [
        *(world.step(trajectory=str(i), state=state) for i, state in enumerate(STATES[:3])),
        world.step(trajectory="two", prompt_token_ids=world.expanded(images=2), frame_digests=two),
        world.step(trajectory="none", prompt_token_ids=world.expanded(images=0), frame_digests=()),
    ]
    assert dependence(make_policy(world), rows_of(world, steps))["image_dependence_rows"] == 3


def test_a_model_that_reads_the_picture_depends_on_it(world, make_policy):
    """Trained a little on thoughts that name what the picture shows."""
    policy = make_policy(world)
    before = dependence(policy, image_rows(world))
    sections = {"algorithm": "reinforce"}
    loop = loop_of(policy, 4096, sections, epochs=1, minibatch_size=24, learning_rate=1e-2, normalize_advantages=False)
    answers = [world.response(state) for state in STATES]
    steps = []
    for i, state in enumerate(STATES):
        for j, answer in enumerate(answers):
            row = world.step(trajectory=f"{i}-{j}", state=state, response_token_ids=answer, reward=float(i == j))
            steps.append(row)
    for version in range(12):
        loop.update(rows_of(world, steps), policy_version=version, generator=generator(version))
    after = dependence(policy, image_rows(world))
    assert after["thought_image_dependence"] > before["thought_image_dependence"] + 0.01


def test_the_loop_runs_the_shuffle_test_every_so_many_updates(world, make_policy):
    loop = loop_of(make_policy(world), sections={"monitors": {"rows": 4, "every_updates": 3}}, epochs=1)
    found = [
        "thought_image_dependence" in loop.update(image_rows(world), policy_version=v, generator=generator())
        for v in range(4)
    ]
    assert found == [True, False, False, True]
    metrics = loop_of(make_policy(world)).update(image_rows(world), policy_version=0, generator=generator())
    assert "duplicate_thoughts" in metrics
    assert not [name for name in metrics if "image_dependence" in name]
