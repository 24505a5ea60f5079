from types import SimpleNamespace

import pytest
import torch

from actors import vllm_cpu_kernels
from actors.vllm_cpu_kernels import accept, expand, redraw, update

RANK, INPUTS, WIDTHS = 4, 6, (5, 3)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def slow(y: torch.Tensor, x: torch.Tensor, a: list, b: list, scale: float, slots: list[int]) -> torch.Tensor:
    """Token by token; -1 is no adapter."""
    y = y.clone()
    for token, slot in enumerate(slots):
        if slot >= 0:
            parts = [b[n][slot, 0] @ (a[n][slot, 0] @ x[token]) * scale for n in range(len(WIDTHS))]
            y[token] += torch.cat(parts)
    return y


@pytest.mark.parametrize("slots", [[0] * 7, [2] * 7, [-1] * 7, [0, 0, 2, 1, 1, 0, 2], [-1, 0, -1, 2, 2, 0, 0]])
def test_every_token_gets_its_own_adapter(slots):
    a = [random(3, 1, RANK, INPUTS) for _ in WIDTHS]
    b = [random(3, 1, width, RANK) for width in WIDTHS]
    x, y = random(len(slots), INPUTS), random(len(slots), sum(WIDTHS))
    expected = slow(y, x, a, b, 0.5, slots)
    wrapper = SimpleNamespace(token_lora_indices=torch.tensor(slots))
    vllm_cpu_kernels._add_lora_linear(wrapper, y, x, tuple(a), tuple(b), 0.5, WIDTHS)
    torch.testing.assert_close(y, expected)


def test_tokens_that_nobody_named_an_adapter_for_are_an_error():
    wrapper = SimpleNamespace(token_lora_indices=torch.tensor([0, 0]))
    with pytest.raises(RuntimeError, match="adapters of 2 tokens, the layer has 3"):
        vllm_cpu_kernels._add_lora_linear(wrapper, random(3, 5), random(3, INPUTS), (), (), 1.0, ())


def test_an_update_changes_only_its_rows():
    y = torch.zeros(3, 2)
    update(y, torch.ones(3, 1), torch.ones(1, 1), torch.ones(2, 1), 3.0, torch.tensor([1]))
    assert y.tolist() == [[0, 0], [3, 3], [0, 0]]


def test_every_drafted_token_gets_the_temperature_of_its_request():
    output = torch.full((5,), torch.nan)
    expand(output, torch.tensor([0.7, 0.0, 1.5, 0.2]), torch.tensor([2, 3, 3, 5], dtype=torch.int32), 0, 1)
    torch.testing.assert_close(output, torch.tensor([0.7, 0.7, 1.0, 0.2, 0.2]))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_vllms_own_products_are_the_same(dtype):
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    slots = torch.tensor([0, 2, 2, 1, 0, 0, 2])
    a = tuple(random(3, 1, RANK, INPUTS).to(dtype) for _ in WIDTHS)
    b = tuple(random(3, 1, width, RANK).to(dtype) for width in WIDTHS)
    x, y = random(7, INPUTS).to(dtype), random(7, sum(WIDTHS)).to(dtype)
    theirs, ours = y.clone(), y.clone()
    wrapper = PunicaWrapperCPU(16, 8, "cpu")
    wrapper._token_lora_indices[:7] = slots
    wrapper.indices_len[0] = 7
    wrapper.is_prefill = False
    wrapper.add_lora_linear(theirs, x, a, b, 2.0, WIDTHS)
    vllm_cpu_kernels._add_lora_linear(wrapper, ours, x, a, b, 2.0, WIDTHS)
    torch.testing.assert_close(ours, theirs)


VOCABULARY, DRAFTS = 5, 3


def draws_from(drafts: list[int], probs: list[float], count: int) -> torch.Tensor:
    """The tokens of `count` requests of the same probabilities at every position, each with these drafts."""
    from vllm.platforms import current_platform

    current_platform.import_kernels()
    generator = torch.Generator().manual_seed(0)
    target = torch.tensor(probs).repeat(count * DRAFTS, 1)
    ids = torch.tensor(drafts, dtype=torch.int32).repeat(count)
    ends = torch.arange(1, count + 1, dtype=torch.int32) * DRAFTS
    inverse_noise = 1 / torch.empty(count, VOCABULARY).exponential_(generator=generator)
    recovered = torch.empty_like(ids)
    redraw(recovered, ends, ids, None, target, inverse_noise, VOCABULARY, None, True)
    output = torch.full((count, DRAFTS + 1), -1, dtype=torch.int32)
    uniform = torch.rand(count * DRAFTS, generator=generator, dtype=torch.float64)
    bonus = torch.zeros(count, 1, dtype=torch.int32)
    greedy = torch.zeros(count, dtype=torch.bool)
    accept(output, ends, ids, None, target, bonus, recovered, uniform, greedy, DRAFTS, VOCABULARY, None, True)
    return output


@pytest.mark.slow
@pytest.mark.parametrize("drafts", [[-1, -1, -1], [0, 1, 2], [4, 4, 4]])
def test_tokens_come_with_their_probabilities_whatever_is_drafted_even_nothing(drafts):
    probs, count = [0.1, 0.2, 0.05, 0.05, 0.6], 20_000
    drawn = draws_from(drafts, probs, count)
    shares = torch.bincount(drawn[:, 0].long(), minlength=VOCABULARY) / count
    torch.testing.assert_close(shares, torch.tensor(probs), atol=0.015, rtol=0)
    if drafts[0] < 0:
        assert (drawn[:, 1:] == -1).all(), "what was not drafted was accepted"
