import numpy as np
import pytest

from envs.marks import grid

LINE = [255, 0, 255]


@pytest.mark.parametrize(("height", "width"), [(300, 300), (64, 64), (90, 210)])
def test_the_grid_has_three_by_three_cells(height, width):
    picture = np.full((height, width, 3), 255, np.uint8)
    marked = grid(picture, {})
    assert (marked.shape, marked.dtype) == (picture.shape, np.uint8)
    lines = (marked == LINE).all(axis=-1)
    assert np.flatnonzero(lines.all(axis=0)).tolist() == [column * width // 3 for column in range(3)]
    assert np.flatnonzero(lines.all(axis=1)).tolist() == [row * height // 3 for row in range(3)]
    assert (picture == 255).all(), "the picture itself stays as it is"


def test_every_cell_has_another_letter_in_its_corner():
    marked = grid(np.full((300, 300, 3), 255, np.uint8), {}) != 255
    corners = {
        marked[100 * row + 1 : 100 * row + 30, 100 * column + 1 : 100 * column + 30].tobytes()
        for row in range(3)
        for column in range(3)
    }
    assert len(corners) == 9


def test_what_lies_between_the_marks_is_kept():
    picture = np.random.default_rng(0).integers(0, 200, (300, 300, 3), np.uint8)
    same = (grid(picture, {}) == picture).all(axis=-1)
    assert same.mean() > 0.96
