import itertools

from actors.drafting import Drafter

TEXT = [9, 9, 1, 2, 3, 4, 5, 6, 7, 8]


def drafter(length: int = 4, contexts: tuple[int, ...] = (4, 2), least_chance: float = 0.5, **limits: int) -> Drafter:
    return Drafter(length, contexts, least_chance, **limits)


def test_what_followed_once_is_drafted_up_to_the_length():
    made = drafter()
    assert made.draft(TEXT[:4]) == []
    made.learn(TEXT, new=8)
    assert made.draft(TEXT[:4]) == [3, 4, 5, 6]
    assert made.draft(TEXT[:8]) == [7, 8], "nothing followed the end"
    assert made.draft([]) == []


def test_only_the_new_tokens_are_learned_each_after_those_before_it():
    made = drafter()
    made.learn(TEXT, new=2)
    assert made.draft(TEXT[:4]) == []
    assert made.draft(TEXT[4:8]) == [7, 8]


def test_a_text_learned_bit_by_bit_is_learned_once():
    whole, parts = drafter(), drafter()
    whole.learn(TEXT, new=len(TEXT))
    for end in range(1, len(TEXT) + 1):
        parts.learn(TEXT[:end], new=1)
    assert whole._young == parts._young


def test_the_longest_known_context_decides():
    made = drafter(length=1)
    made.learn([1, 1, 5, 6, 7], new=1)
    for _ in range(9):
        made.learn([2, 2, 5, 6, 8], new=1)
    assert made.draft([1, 1, 5, 6]) == [7]
    assert made.draft([3, 3, 5, 6]) == [8], "nine of ten by the short context"


def test_a_draft_ends_where_its_acceptance_is_unlikely():
    made = drafter(contexts=(1,), least_chance=0.5)
    for follower in (2, 2, 2, 3):
        made.learn([1, follower], new=1)  # 2 three times of four
    for follower in (4, 4, 4, 5):
        made.learn([2, follower], new=1)
    assert made.draft([1]) == [2, 4], "0.75 * 0.75 is above a half"
    for follower in (6, 6, 7):
        made.learn([4, follower], new=1)
    assert made.draft([1]) == [2, 4], "0.75 * 0.75 * 0.67 is not"


def test_a_newer_habit_outvotes_an_older_one():
    made = drafter(length=1, contexts=(1,), least_chance=0.3)
    for follower in [2] * 5 + [3] * 4:
        made.learn([1, follower], new=1)
    assert made.draft([1]) == [2], "five of nine"
    made.learn([1, 3], new=1)
    assert made.draft([1]) == [3]


def test_memory_is_bounded_and_what_is_in_use_survives():
    made = drafter(contexts=(2,), most_contexts=200)
    for number in itertools.count(1000):
        made.learn([1, 2, 3], new=1)
        made.learn([number, number, 5], new=1)
        assert len(made._young) + len(made._old) <= 200
        if number == 1500:
            break
    assert made.draft([1, 2]) == [3]
    assert made.draft([1000, 1000]) == [], "the oldest is forgotten"
    assert made.draft([1500, 1500]) == [5]
