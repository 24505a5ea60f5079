"""All forms of a case hold the same rows."""

import io

import numpy as np
import pytest
from PIL import Image

from cluster.bench.transport_rows import ARRAYS, CARDS, EPISODE_STEPS, PICTURES, PNG, ROOMS, Case, build_world
from learner.rows import gather_rows


@pytest.fixture(scope="module", params=[CARDS, ROOMS])
def case(request) -> Case:
    return Case(request.param, 20)


@pytest.fixture(scope="module")
def world(case):
    return build_world(case)


def test_the_batch_holds_whole_episodes_and_each_picture_once(case, world):
    rows = gather_rows([world.batch()])
    assert len(rows) == case.rows and rows.last_rows.tolist() == [EPISODE_STEPS - 1, 2 * EPISODE_STEPS - 1, 19]
    assert len(rows.frames) == len({frame.digest for frame in world.frames})
    assert all(rows.frames[digest] == frame.data for (digest,), frame in zip(rows.digests, world.frames, strict=True))


def test_rooms_differ_and_are_large_and_cards_are_small(case, world):
    sizes = [len(frame.data) for frame in world.frames]
    if case.pictures == ROOMS:
        assert len({frame.digest for frame in world.frames}) == case.rows and min(sizes) > 100_000
    else:
        assert max(sizes) < 50_000


@pytest.mark.parametrize("form", [PNG, PICTURES, ARRAYS])
def test_objects_hold_what_the_batch_holds(world, form):
    rows = gather_rows([world.batch()])
    objects = world.objects(form)
    for index, one in enumerate(objects):
        assert np.array_equal(one.prompt_token_ids, rows.prompts[index])
        assert np.array_equal(one.behavior_log_probs, rows.behavior_log_probs[index])
        assert (one.reward, one.step) == (rows.rewards[index], rows.steps[index])
        pixels = _pixels(one.image) if form == PNG else one.image
        assert np.array_equal(np.asarray(pixels), _pixels(world.frames[index].data))
    assert isinstance(objects[0].prompt_token_ids, np.ndarray if form == ARRAYS else list)
    assert len({id(one.image) for one in objects}) == len(objects), "pickle would send a shared picture once"


def test_equal_seeds_give_equal_rows(case, world):
    assert build_world(case).batch().steps.equals(world.batch().steps)


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
