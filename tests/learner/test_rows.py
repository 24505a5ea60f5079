import numpy as np

from learner.rows import gather_rows
from protocol.trajectory import EndReason


def test_rows_keep_order_ends_and_bootstraps_across_batches(world):
    steps = world.mixed_steps()
    rows = gather_rows([world.batch(steps[:3]), world.batch(steps[3:])])
    assert len(rows) == 7
    assert rows.last_rows.tolist() == [2, 5, 6]
    assert rows.rewards.tolist() == [0.0, -1.0, 1.0, 0.0, 0.5, -1.0, 2.0]
    for i, step in enumerate(steps):
        np.testing.assert_array_equal(rows.prompts[i], step.prompt_token_ids)
        np.testing.assert_array_equal(rows.responses[i], step.response_token_ids)
        np.testing.assert_array_equal(rows.roles[i], step.token_roles)
        assert rows.digests[i] == step.frame_digests
    assert rows.bootstrap_prompts[0] is None
    assert rows.bootstrap_digests[0] == ()
    np.testing.assert_array_equal(rows.bootstrap_prompts[1], steps[5].bootstrap_prompt_token_ids)
    assert rows.bootstrap_digests[1] == steps[5].bootstrap_frame_digests
    assert {d for step in steps for d in (*step.frame_digests, *step.bootstrap_frame_digests)} == set(rows.frames)


def test_token_lists_are_views_into_the_arrow_buffers(world):
    batch = world.batch(world.trajectory("a", [(1, 4), (2, 4)], [0.0, 1.0]))
    row = gather_rows([batch]).responses[1]
    values = batch.steps.column("response_token_ids").values.to_numpy()
    assert np.shares_memory(row, values)


def test_a_sliced_batch_gives_its_own_rows(world):
    steps = [*world.trajectory("a", [(1, 4)], [1.0]), *world.trajectory("b", [(5, 0)], [2.0])]
    batch = world.batch(steps)
    sliced = type(batch)(batch.steps.slice(1), batch.frames)
    rows = gather_rows([sliced])
    assert rows.rewards.tolist() == [2.0]
    np.testing.assert_array_equal(rows.responses[0], steps[1].response_token_ids)
    assert rows.digests == [steps[1].frame_digests]


def test_lengths_and_last_rows_of_failed_episodes(world):
    steps = world.trajectory("a", [(1, 4)], [1.0], end_reason=EndReason.ENV_ERROR, bootstrap_of=(2, 4))
    rows = gather_rows([world.batch(steps)])
    assert rows.last_rows.tolist() == [0]
    assert rows.lengths.tolist() == [len(steps[0].prompt_token_ids) + len(steps[0].response_token_ids)]


def test_tags_say_where_a_row_comes_from(world):
    steps = [
        world.step(trajectory="a", env_id="cards", task="", reset_seed=7, legal=False),
        world.step(trajectory="b", env_id="house", task="home/heat", reset_seed=2**40, episode_id="e"),
        world.step(trajectory="c", env_id="house", task="heat"),
    ]
    rows = gather_rows([world.batch(steps[:1]), world.batch(steps[1:])])
    assert rows.env_ids == ["cards", "house", "house"]
    assert rows.tasks == ["", "home/heat", "heat"]
    assert rows.components == ["cards", "home", "heat"]
    assert rows.reset_seeds.tolist() == [7, 2**40, 0]
    assert rows.episode_ids == ["a", "e", "c"]
    assert rows.legal.tolist() == [False, True, True]
    assert rows.end_reasons == [EndReason.TERMINATED] * 3


def test_states_are_equal_if_prompt_and_frames_are(world):
    steps = [world.step(trajectory=str(i), state=state) for i, state in enumerate([(1, 4), (1, 4), (2, 4)])]
    steps.append(world.step(trajectory="3", state=(1, 4), prompt_token_ids=world.expanded("other")))
    rows = gather_rows([world.batch(steps)])
    assert rows.state(0) == rows.state(1)
    assert len({rows.state(i) for i in range(4)}) == 3
