import numpy as np
import pytest

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

from envs.alfworld.errors import GameFilesError
from envs.alfworld.game_pool import GamePool
from envs.alfworld.goal import TASK_TYPES
from envs.errors import ResetOptionsError
from tests.envs.alfworld.test_game_files import write_game


@pytest.fixture
def pool(tmp_path, monkeypatch):
    monkeypatch.setenv("CROUPIER_CACHE", str(tmp_path / "cache"))
    for name in "cab":
        write_game(tmp_path / "games" / name)
    return GamePool(str(tmp_path / "games"), "train", TASK_TYPES)


def test_the_generator_alone_decides(pool):
    def drawn(seed):
        rng = np.random.default_rng(seed)
        return [pool.choose(None, rng).key for _ in range(20)]

    assert drawn(7) == drawn(7) != drawn(8)
    assert set(drawn(7)) == {"a", "b", "c"}


def test_a_game_can_be_named(pool):
    assert pool.choose({"game": "b"}, np.random.default_rng(0)).key == "b"
    with pytest.raises(ResetOptionsError, match="no game 'z' among 3; the first is 'a'"):
        pool.choose({"game": "z"}, np.random.default_rng(0))
    with pytest.raises(ResetOptionsError, match="'level' is unknown"):
        pool.choose({"level": 1}, np.random.default_rng(0))


def test_an_empty_choice_is_an_error(pool, tmp_path):
    with pytest.raises(GameFilesError, match="none of 3 games"):
        GamePool(str(tmp_path / "games"), "train", ["look_at_obj_in_light"])
