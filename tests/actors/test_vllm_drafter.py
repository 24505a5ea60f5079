from types import SimpleNamespace

import numpy as np

from actors.vllm_drafter import VLLMDrafter

PROMPT = [7, 7, 7]
ANSWER = [1, 2, 3, 4, 5, 6]


def drafter(length: int = 4, max_model_len: int = 64) -> VLLMDrafter:
    return VLLMDrafter(
        SimpleNamespace(
            speculative_config=SimpleNamespace(num_speculative_tokens=length),
            model_config=SimpleNamespace(max_model_len=max_model_len),
        )
    )


def step(made: VLLMDrafter, *rows: tuple[list[int], int]) -> list[list[int]]:
    """What is drafted after a step that drew the last `n` tokens of each row's answer so far."""
    ids = np.full((len(rows) + 2, 64), -1, dtype=np.int32)  # vLLM's table has room for more rows
    for row, (answer, _) in enumerate(rows):
        ids[row, : 3 + len(answer)] = PROMPT + answer
    ends = np.array([3 + len(answer) for answer, _ in rows] + [0, 0])
    return made.propose([answer[len(answer) - drawn :] for answer, drawn in rows], ends, ids)


def test_rows_learn_from_one_another_and_from_the_step_itself():
    made = drafter()
    assert step(made, (ANSWER, 6), (ANSWER[:1], 1)) == [[], [2, 3, 4, 5]]


def test_a_row_that_drew_nothing_gets_no_draft():
    made = drafter()
    assert step(made, (ANSWER, 6), (ANSWER[:1], 0)) == [[], []]


def test_a_draft_leaves_room_for_the_token_after_it():
    made = drafter(max_model_len=7)
    assert step(made, (ANSWER, 6), (ANSWER[:1], 1)) == [[], [2, 3]], "4 tokens, 2 drafted, 1 drawn"


def test_accepted_drafts_are_counted():
    made = drafter()
    step(made, (ANSWER, 6))
    accepted = made.accepted
    step(made, (ANSWER[:1], 1))
    assert (made.drafted, made.accepted) == (4, accepted)
    step(made, (ANSWER[:4], 3), (ANSWER, 0))
    assert made.accepted == accepted + 2, "the last of three was drawn, not drafted"
