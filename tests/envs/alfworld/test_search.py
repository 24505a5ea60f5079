import pytest

from envs.alfworld.search import Search
from tests.envs.alfworld.worlds import kitchen


@pytest.mark.parametrize(
    "command, changes, seen",
    [
        ("go to countertop 1", (), {"countertop 1"}),
        ("go to fridge 1", (), set()),  # closed
        ("go to fridge 1", ("opened fridge 1",), {"fridge 1"}),
        ("open fridge 1", ("opened fridge 1",), {"fridge 1"}),
        ("examine cabinet 10", ("opened cabinet 10",), {"cabinet 10"}),
        ("examine mug 1", (), set()),
        ("look", (), set()),
        ("take mug 1 from countertop 1", (), set()),
    ],
)
def test_what_an_answer_shows(command, changes, seen):
    search = Search()
    search.learn(command, kitchen(*changes))
    assert search.searched == seen


def test_what_was_seen_stays_known():
    search = Search()
    search.learn("open fridge 1", kitchen("opened fridge 1"))
    search.learn("close fridge 1", kitchen())
    assert search.searched == {"fridge 1"}
