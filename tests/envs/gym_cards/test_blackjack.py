import numpy as np
import pytest

from envs.errors import ResetOptionsError
from envs.gym_cards.blackjack import HIT, STAND, Blackjack, total
from tests.envs.gym_cards import blackjack_reference as reference
from tests.envs.gym_cards.formula_reference import chi_square

ACTIONS = {"stand": STAND, "hit": HIT}


@pytest.fixture
def env():
    return Blackjack()


def place(env, player=(10, 6), dealer=(9, 7), deck=()):
    return env.reset(options={"player": list(player), "dealer": list(dealer), "deck": list(deck)})


def values(cards):
    return [value for value, _, _ in cards]


def test_names_are_the_originals_indices():
    assert (STAND, HIT) == (0, 1)


def test_thousands_of_placed_transitions_agree_with_the_reference(env):
    rng, rewards = np.random.default_rng(1), {-1: 0, 0: 0, 1: 0}
    draw = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10])
    seen = 0
    while seen < 3000:
        low = draw if seen % 3 else np.array([1, 1, 2, 3])  # aces and long hands often enough
        player = rng.choice(low, int(rng.integers(2, 8 if low is not draw else 4))).tolist()
        if sum(player) > 21:
            continue
        dealer, deck = rng.choice(draw, 2).tolist(), rng.choice(draw, 18).tolist()
        name = "hit" if rng.random() < 0.4 else "stand"
        place(env, player, dealer, deck)
        _, reward, terminated, truncated, info = env.step(ACTIONS[name])
        found = (values(info["Player Card"]), values(info["Dealer Card"]), reward, terminated)
        assert found == reference.transition(player, dealer, deck, name), (player, dealer, deck, name)
        assert not truncated and isinstance(reward, float)
        rewards[int(reward)] += 1
        seen += 1
    assert min(rewards.values()) > 200


@pytest.mark.parametrize(
    ("player", "dealer", "deck", "actions", "expected"),
    [
        ([10, 6], [9, 7], [5, 3], "hs", [(0, False), (1, True)]),  # 21 against 19
        ([10, 6], [9, 7], [6], "h", [(-1, True)]),  # over
        ([10, 6], [9, 7], [5], "s", [(-1, True)]),  # 16 against 21
        ([10, 6], [9, 7], [6], "s", [(1, True)]),  # the dealer goes over
        ([10, 8], [10, 8], [], "s", [(0, True)]),  # a draw
        ([10, 7], [1, 6], [4], "s", [(0, True)]),  # the dealer stands on a soft 17
        ([10, 7], [1, 5], [10, 1], "s", [(0, True)]),  # a soft 16 turns hard, and then draws to 17
        ([1, 10], [7, 7], [7], "s", [(0, True)]),  # a natural earns nothing against three cards
        ([1, 10], [10, 9], [], "s", [(1, True)]),  # and pays 1 like any other win
        ([1, 10], [10, 1], [], "s", [(0, True)]),  # a natural against a natural
        ([10, 6, 5], [10, 1], [], "s", [(0, True)]),  # 21 against the dealer's natural
        ([10, 6], [6, 10], [10], "h", [(-1, True)]),  # over, though the dealer would have been so too
        ([1, 1], [10, 7], [9, 10], "hh", [(0, False), (0, False)]),  # 21 soft, then 21 hard
        ([1, 1, 1, 1, 1, 1, 1], [10, 7], [10], "hs", [(0, False), (0, True)]),  # 17 against 17
        ([10, 1], [10, 7], [10, 1], "hh", [(0, False), (-1, True)]),  # a hit at 21 is allowed
    ],
)
def test_rules_case_by_case(env, player, dealer, deck, actions, expected):
    place(env, player, dealer, deck)
    found = [env.step(HIT if letter == "h" else STAND)[1:3] for letter in actions]
    assert found == expected


def test_thousands_of_played_hands_agree_with_the_reference(env):
    """Dealt and drawn by chance; the reference gets the cards that info shows to have been drawn."""
    rng, seen, ended, info = np.random.default_rng(4), {-1: 0, 0: 0, 1: 0}, True, {}
    env.reset(seed=4)
    for _ in range(4000):
        if ended:
            _, info = env.reset()
            assert [len(info[hand]) for hand in ("Player Card", "Dealer Card")] == [2, 2]
        name = "hit" if rng.random() < 0.5 else "stand"
        before, (_, reward, ended, truncated, info) = info, env.step(ACTIONS[name])
        assert not truncated
        player, dealer = values(info["Player Card"]), values(info["Dealer Card"])
        deck = [*player[len(before["Player Card"]) :], *dealer[2:]]
        expected = reference.transition(values(before["Player Card"]), values(before["Dealer Card"]), deck, name)
        assert (player, dealer, reward, ended) == expected
        seen[int(reward)] += 1
    assert min(seen.values()) > 400


def test_where_the_deck_of_the_options_ends_chance_takes_over(env):
    drawn = set()
    for _ in range(60):
        place(env, [2, 2], [9, 7], [3])
        env.step(HIT)
        *known, last = values(env.step(HIT)[4]["Player Card"])
        assert known == [2, 2, 3]
        drawn.add(last)
    assert len(drawn) > 5


def test_a_deck_does_not_outlive_its_episode(env):
    place(env, deck=[5] * 1000)
    env.reset(seed=0)
    drawn = set()
    for _ in range(60):
        drawn |= set(values(env.reset()[1]["Player Card"]))
    assert len(drawn) == 10


def test_initial_hands_follow_the_published_distribution(env):
    """Chi-square; the limits are exceeded once in 1000 seeds. A ten is a J, Q or K, never a T."""
    n = 4000
    env.reset(seed=3)
    cards = [card for _ in range(n) for hand in env.reset()[1].values() for card in hand]
    faces = ["A", *"23456789", *"JQK"]
    odds = {face: (4 / 39 if face in "JQK" else 1 / 13) for face in faces}
    for place_in_deal in range(4):
        dealt = cards[place_in_deal::4]
        counts = {face: sum(card[1] == face for card in dealt) for face in faces}
        assert chi_square(counts, odds) < 31.3  # 11 degrees of freedom
        suits = {suit: sum(card[2] == suit for card in dealt) for suit in "HSDC"}
        assert chi_square(suits, dict.fromkeys("HSDC", 0.25)) < 16.3  # 3
    assert chi_square(counts, dict.fromkeys(faces, 1 / 12)) > 45, "too few cards to tell odds apart"
    pairs = {(one, two): 0 for one in range(1, 11) for two in range(1, 11)}
    for index in range(0, len(cards), 4):
        pairs[cards[index][0], cards[index + 2][0]] += 1
    together = {(one, two): reference.DECK[one] * reference.DECK[two] for one, two in pairs}
    assert chi_square(pairs, together) < 148.3  # 99
    assert all(value == (1 if face == "A" else 10 if face in "JQK" else int(face)) for value, face, _ in cards)


@pytest.mark.parametrize(
    ("hand", "expected"),
    [([1, 10], (21, True)), ([1, 1], (12, True)), ([1, 10, 10], (21, False)), ([5, 6], (11, False))],
)
def test_totals(hand, expected):
    assert total(hand) == expected


def test_a_deal_draws_what_its_cards_need_and_nothing_else(env):
    """Value, face of a ten, suit, card by card: the dealer's two, then the player's."""
    env.reset(seed=7)
    for _ in range(50):
        twin = np.random.Generator(np.random.PCG64())
        twin.bit_generator.state = env.np_random.bit_generator.state
        _, info = env.reset()
        for value, face, suit in info["Dealer Card"] + info["Player Card"]:
            assert value == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10][twin.integers(13)]
            assert value < 10 or face == "JQK"[twin.integers(3)]
            assert suit == "HSDC"[twin.integers(4)]
        assert twin.bit_generator.state == env.np_random.bit_generator.state


def test_info_tells_what_the_symbolic_observation_would(env):
    """The original's never reported a usable ace."""
    _, info = place(env, [1, 6], [9, 7])
    assert (*total(values(info["Player Card"])), info["Dealer Card"][0][0]) == (17, True, 9)
    _, info = place(env, [10, 6, 1], [1, 7])
    assert (*total(values(info["Player Card"])), info["Dealer Card"][0][0]) == (17, False, 1)


def test_the_originals_options_without_effect_are_gone():
    """`natural` and `sab` did nothing there, and `is_pixel=False` never reported a usable ace."""
    for option in ("natural", "sab", "is_pixel"):
        with pytest.raises(TypeError, match=option):
            Blackjack(**{option: True})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"player": [10, 6]}, "lack dealer; a state needs player, dealer"),
        ({"player": [10, 6], "dealer": [9, 7], "dec": []}, "'dec'; did you mean 'deck'"),
        ({"player": [10], "dealer": [9, 7]}, "'player' must hold two cards or more that do not exceed 21"),
        ({"player": [10, 6, 6], "dealer": [9, 7]}, r"do not exceed 21, not \[10, 6, 6\]"),
        ({"player": [10, 6], "dealer": [9, 7, 2]}, r"'dealer' must hold two cards, not \[9, 7, 2\]"),
        ({"player": [11, 6], "dealer": [9, 7]}, r"'player' holds 11; card values are 1 \(ace\) to 10"),
        ({"player": [10, 0], "dealer": [9, 7]}, "'player' holds 0"),
        ({"player": [10, 6], "dealer": ["K", 7]}, "'dealer' holds 'K'"),
        ({"player": [10, 6], "dealer": [9, 7.0]}, "'dealer' holds 7.0"),
        ({"player": [10, True], "dealer": [9, 7]}, "'player' holds True"),
        ({"player": [10, 6], "dealer": [9, 7], "deck": 5}, "'deck' must be a list of card values, not 5"),
        ({"player": [10, 6], "dealer": [9, 7], "deck": [5, 12]}, "'deck' holds 12"),
    ],
)
def test_impossible_states_are_refused_and_leave_the_old_one(env, options, message):
    place(env, [2, 3], [4, 5], [6])
    with pytest.raises(ResetOptionsError, match=message):
        env.reset(options=options)
    assert values(env.step(HIT)[4]["Player Card"]) == [2, 3, 6]
