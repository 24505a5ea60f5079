import pytest

from envs.errors import ResetOptionsError
from envs.gym_cards.deck import CODES, cards, value


def test_there_are_52_cards():
    assert len(CODES) == 52


def test_faces_count_ten_or_their_place():
    codes = ["HA", "S2", "D9", "CT", "HJ", "SQ", "DK"]
    assert [value(code) for code in codes] == [1, 2, 9, 10, 10, 10, 10]
    assert [value(code, highest=13) for code in codes] == [1, 2, 9, 10, 11, 12, 13]


def test_cards_come_back_as_a_new_list():
    given = ("H4", "S8")
    assert cards({"cards": given}, 2) == ["H4", "S8"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["H4"], "list of 2 codes like 'H4', not"),
        ("H4S8", "list of 2 codes like 'H4', not 'H4S8'"),
        (None, "list of 2 codes like 'H4', not None"),
        (["H4", "s8"], "'s8'; did you mean 'S8'"),
        (["H10", "S8"], "'H10'; did you mean 'HT'"),
        (["H4", "X8"], "'X8'; write a suit of HSDC and a rank of A23456789TJQK"),
        (["H4", 8], "8; write a suit"),
        (["H4", ["S8"]], "write a suit"),
    ],
)
def test_what_is_no_hand_is_refused(given, message):
    with pytest.raises(ResetOptionsError, match=message):
        cards({"cards": given}, 2)
