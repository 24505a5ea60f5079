import torch
from torch import nn

from learner.parallel.group import ALONE, add_up_gradients
from tests.learner.parallel.threads import members, together


def parameters_with(gradients):
    made = [nn.Parameter(torch.zeros(2)) for _ in gradients]
    for parameter, gradient in zip(made, gradients, strict=True):
        parameter.grad = None if gradient is None else torch.tensor(gradient)
    return made


def test_a_group_of_one_touches_nothing():
    parameters, other = parameters_with([[1.0, 2.0], None]), torch.tensor([5.0])
    gradient = parameters[0].grad
    add_up_gradients(ALONE, parameters, [other])
    assert parameters[0].grad is gradient and parameters[1].grad is None
    assert other.tolist() == [5.0]
    ALONE.require_equal({"w": other})


def test_gradients_and_what_travels_with_them_are_summed_in_one_go():
    brought = [[[1.0, 2.0], None, None], [[10.0, 20.0], [3.0, 4.0], None]]

    def work(group):
        parameters, other = parameters_with(brought[group.rank]), torch.tensor([group.rank + 1.0])
        add_up_gradients(group, parameters, [other])
        assert group.collectives == 1
        return [None if p.grad is None else p.grad.tolist() for p in parameters], other.tolist()

    # One that nobody has a gradient of stays without: Adam would move it by its momentum otherwise.
    assert together(members(2), work) == [([[11.0, 22.0], [3.0, 4.0], None], [3.0])] * 2
