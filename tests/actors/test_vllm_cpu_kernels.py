from types import SimpleNamespace

import pytest
import torch

from actors import vllm_cpu_kernels
from actors.vllm_cpu_kernels import expand, update

RANK, INPUTS, WIDTHS = 4, 6, (5, 3)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


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
def test_vllms_own_products_are_the_same():
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    slots = torch.tensor([0, 2, 2, 1, 0, 0, 2])
    a = tuple(random(3, 1, RANK, INPUTS).float() for _ in WIDTHS)
    b = tuple(random(3, 1, width, RANK).float() for width in WIDTHS)
    x, y = random(7, INPUTS).float(), random(7, sum(WIDTHS)).float()
    theirs, ours = y.clone(), y.clone()
    wrapper = PunicaWrapperCPU(16, 8, "cpu")
    wrapper._token_lora_indices[:7] = slots
    wrapper.indices_len[0] = 7
    wrapper.is_prefill = False
    wrapper.add_lora_linear(theirs, x, a, b, 2.0, WIDTHS)
    vllm_cpu_kernels._add_lora_linear(wrapper, ours, x, a, b, 2.0, WIDTHS)
    torch.testing.assert_close(ours, theirs)
