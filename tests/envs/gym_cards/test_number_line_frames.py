"""What can be seen: at 300 x 300, and at the 84 x 84 that a tiny model's image processor makes of it."""

from itertools import combinations, product

import numpy as np
import pytest
from PIL import Image

from envs.gym_cards.number_line import draw

TARGET_CELL = np.s_[:28, 56:]
CURRENT_CELL = np.s_[56:, 56:]


def glance(target, current):
    """The frame as a grey 84 x 84 picture, float64 in 0..255."""
    small = Image.fromarray(draw(target, current)).convert("L").resize((84, 84), Image.Resampling.BICUBIC)
    return np.asarray(small, dtype=np.float64)


def test_all_36_states_look_different():
    frames = {draw(*state).tobytes() for state in product(range(6), range(6))}
    small = {glance(*state).tobytes() for state in product(range(6), range(6))}
    assert len(frames) == len(small) == 36


def test_frames_are_black_on_white_and_crisp():
    frame = draw(4, 1)
    assert frame.shape == (300, 300, 3) and frame.dtype == np.uint8
    assert (frame == frame[..., :1]).all()
    assert frame.max() == 255 and frame.min() == 0
    blurred = np.mean((frame > 10) & (frame < 245))
    assert blurred < 0.03


@pytest.mark.parametrize("cell", [TARGET_CELL, CURRENT_CELL], ids=["target", "current"])
def test_digits_differ_at_a_glance(cell):
    """Any two digits differ in at least 30 of a cell's 784 pixels by more than half the contrast."""
    shown = {digit: glance(digit, digit)[cell] for digit in range(10)}
    for one, two in combinations(range(10), 2):
        assert (np.abs(shown[one] - shown[two]) > 128).sum() >= 30, (one, two)


def test_each_digit_stays_in_its_cell():
    """Changing one digit changes pixels of its own cell only: a place always tells the same thing."""
    for digit in range(1, 10):
        for changed, cell in ((glance(digit, 0), TARGET_CELL), (glance(0, digit), CURRENT_CELL)):
            difference = np.abs(changed - glance(0, 0)) > 8
            assert difference[cell].any()
            difference[cell] = False
            assert not difference.any()


def test_target_stands_above_current():
    """The same digit in either place, one grid row of 100 pixels apart from the other."""
    np.testing.assert_array_equal(draw(3, 7)[:100, 200:], draw(7, 3)[200:, 200:])
    assert not np.array_equal(draw(3, 7)[:100, :200], draw(3, 7)[200:, :200])
