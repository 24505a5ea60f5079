"""The operations of real processes, and what happens when one of them does not take part."""

import os
import signal
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from learner.parallel import process_group
from learner.parallel.process_group import MeetingPoint, ProcessGroup
from protocol.errors import LearnerGroupBroken
from tests.learner.parallel.processes import pair_of_processes

pytestmark = pytest.mark.slow


def sums(group, bucket_bytes):
    process_group._BUCKET_BYTES = bucket_bytes
    tensors = [torch.full((3,), float(group.rank + 1)), torch.tensor(0.5 * group.rank), torch.ones(2, 2).double()]
    group.add_up(tensors)
    return [t.tolist() for t in tensors]


@pytest.mark.parametrize("bucket_bytes", [1, 16, 1 << 20])
def test_sums_of_any_shape_and_type_in_buckets_of_any_size(pair, bucket_bytes):
    assert pair.run(sums, bucket_bytes) == [[[3.0, 3.0, 3.0], 0.5, [[2.0, 2.0], [2.0, 2.0]]]] * 2


def compare(group, difference):
    weights = {"a": torch.arange(5.0), "half": torch.ones(3).bfloat16(), "b": torch.zeros(2)}
    weights["b"][1] += difference * group.rank
    try:
        group.require_equal(weights)
    except LearnerGroupBroken as error:
        return str(error)


def test_equal_bytes_are_told_from_nearly_equal_ones(pair):
    assert pair.run(compare, 0.0) == [None, None]
    for told in pair.run(compare, 1e-30):
        assert "1 of 3 tensors differ, first 'b'" in told


def die_in_the_middle(group):
    if group.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    group.add_up([torch.zeros(3)])


def test_a_process_that_is_gone_is_noticed_before_the_deadline():
    with pair_of_processes(deadline_s=50) as pair:
        left, dead = pair.start(die_in_the_middle)
        with pytest.raises(BrokenProcessPool):
            dead.result(40)
        with pytest.raises(LearnerGroupBroken, match="Learner 0 of 2 could not add up numbers"):
            left.result(20)


def come_late(group):
    if group.rank == 0:
        group.add_up([torch.zeros(3)])


def test_a_process_that_does_not_come_is_not_waited_for_forever():
    with pair_of_processes(deadline_s=20) as pair:
        left, _ = pair.start(come_late)
        with pytest.raises(LearnerGroupBroken, match="could not add up numbers with the others within 20 s"):
            left.result(60)


def test_a_meeting_that_nobody_keeps_is_given_up():
    point = MeetingPoint("127.0.0.1", 5.0)
    address = point.address
    del point
    with pytest.raises(LearnerGroupBroken, match=f"does not reach learner 0 at 127.0.0.1:{address[1]} within 1 s"):
        ProcessGroup.join(address, 1, 2, device=torch.device("cpu"), deadline_s=1.0)
