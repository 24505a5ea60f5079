import numpy as np
import pytest
import torch

from learner.packing import pack

A, B = np.array([1, 2, 3]), np.array([4, 5])
SAME, OTHER = (b"x",), (b"y",)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def packed(prompts, responses, digests=None, share=True):
    return pack(prompts, responses, digests or [SAME] * len(prompts), 9, share_prompts=share)


def kept(packing):
    """Token ids without the filling."""
    return packing.token_ids[: sum(len(span.places) for span in packing.spans)].tolist()


def test_the_last_response_token_is_not_fed_and_filling_comes_last():
    packing = packed([A], [ints(7, 8)])
    assert kept(packing) == [1, 2, 3, 7]
    assert len(packing.token_ids) == 256
    assert set(packing.token_ids[4:].tolist()) == {9}
    assert packing.reads[:2].tolist() == [2, 3]


def test_without_sharing_a_response_follows_its_prompt():
    packing = packed([A, B], [ints(6, 7, 8), ints(6)])
    assert kept(packing) == [1, 2, 3, 6, 7, 4, 5]
    (span,) = packing.spans
    assert span.bias is None
    assert span.queries.tolist() == [[0, 1, 2, 3, 4], [5, 6, 0, 0, 0]]
    assert span.places.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert packing.reads[:4].tolist() == [2, 3, 4, 6]
    assert packing.first_reads.tolist() == [0, 3]


def test_equal_prompts_stand_once_and_each_response_sees_its_own():
    packing = packed([A, B, A], [ints(6, 7), ints(6, 7, 8), ints(8, 6)])
    assert packing.distinct.tolist() == [0, 1]
    assert packing.prompt_of.tolist() == [0, 1, 0]
    assert kept(packing) == [1, 2, 3, 4, 5, 6, 6, 7, 8]
    prompts, responses = packing.spans
    assert prompts.bias is None
    assert responses.keys.tolist() == [[0, 1, 2, 5, 0], [3, 4, 0, 6, 7], [0, 1, 2, 8, 0]]
    assert responses.bias is not None
    seen = (responses.bias[:, 0] == 0).int().tolist()
    assert seen[0][0] == [1, 1, 1, 1, 0]
    assert seen[1] == [[1, 1, 0, 1, 0], [1, 1, 0, 1, 1]]
    assert packing.reads[:7].tolist() == [2, 5, 4, 6, 7, 2, 8]
    assert packing.read_span.bias is not None
    assert (packing.read_span.bias[1, 0] == 0).int().tolist() == [[1, 1, 0, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 1]]


def test_prompts_are_equal_only_with_equal_frames_and_if_sharing_is_asked_for():
    responses = [ints(6, 7)] * 2
    assert len(packed([A, A], responses).distinct) == 1
    assert len(packed([A, A], responses, [SAME, OTHER]).distinct) == 2
    assert len(packed([A, A], responses, share=False).distinct) == 2


@pytest.mark.parametrize("share", [True, False])
def test_prompts_without_responses_are_read_at_their_end(share):
    packing = packed([A, B, A], [ints()] * 3, share=share)
    assert packing.reads[:3].tolist() == ([2, 4, 2] if share else [2, 4, 7])
    assert packing.first_reads.tolist() == [0, 1, 2]
    assert len(packing.spans) == 1
    assert packing.to(torch.device("cpu")).reads is packing.reads
