import pytest
import torch
from transformers import AutoModelForImageTextToText

from learner.vision_attention import NAME, attend_by_size, attention


def qkv(tokens):
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(1, 2, tokens, 8, generator=draw) for _ in range(3)]


@pytest.mark.parametrize("lengths", [[6], [4, 4, 4], [4, 4, 6, 2, 2]])
def test_each_image_attends_to_itself(lengths):
    edges = torch.tensor([0, *lengths]).cumsum(0)
    q, k, v = qkv(sum(lengths))
    found, _ = attention(torch.nn.Module(), q, k, v, None, cu_seq_lens_q=edges, scaling=0.3)
    assert found.shape == (1, sum(lengths), 2, 8)
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        scores = (q[0, :, start:end] @ k[0, :, start:end].transpose(1, 2) * 0.3).softmax(-1)
        expected = (scores @ v[0, :, start:end]).transpose(0, 1)
        torch.testing.assert_close(found[0, start:end], expected, rtol=1e-4, atol=1e-5)


def test_towers_that_take_images_in_a_row_are_told(family_world):
    model = AutoModelForImageTextToText.from_pretrained(family_world.folder)
    attend_by_size(model)
    tower = getattr(model.model, "visual", None)
    assert tower is None or tower.config._attn_implementation == NAME
