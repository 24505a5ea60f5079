import numpy as np
import pytest

from actors.canary import judge_canaries
from protocol.adapter import Canary
from protocol.errors import AdapterRejected

TOLERANCE = 0.01
BASE = np.array([-1.0, -2.0], np.float32)
TUNED = np.array([-1.5, -2.25], np.float32)


def judge(learner=TUNED, base=BASE, server=TUNED, server_base=BASE):
    canary = Canary([1], (), [2, 3], learner, base)
    return judge_canaries(4, [canary], [server], [server_base], TOLERANCE)


def test_a_faithful_server_passes_with_its_evidence():
    verdict = judge(server=TUNED + np.float32(0.004))
    assert verdict.max_abs_error == pytest.approx(0.004, abs=1e-6)
    assert verdict.base_gap == pytest.approx(0.496, abs=1e-6)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"server": TUNED + np.float32(0.02)}, "the canary is 0.02 nats from the learner's"),
        ({"server": np.array([-1.5, np.nan], np.float32)}, "nan"),
        ({"server": BASE}, "the adapter is not in effect"),
        ({"server_base": BASE - np.float32(0.5)}, "without any adapter the server is 0.5 nats"),
        ({"server_base": np.array([np.nan, -2.0], np.float32)}, "without any adapter the server is nan nats"),
        ({"server": TUNED[:1]}, "a canary has 2 log-probs for 1"),
    ],
)
def test_a_server_that_computes_something_else_is_rejected(fields, complaint):
    with pytest.raises(AdapterRejected, match=complaint):
        judge(**fields)


def test_an_adapter_close_to_the_base_need_not_differ_from_it():
    near = BASE + np.float32(TOLERANCE)
    assert judge(learner=near, server=BASE).base_gap == 0.0


def test_the_worst_canary_decides():
    canaries = [Canary([1], (), [2, 3], TUNED, BASE)] * 2
    with pytest.raises(AdapterRejected, match="0.1 nats"):
        judge_canaries(1, canaries, [TUNED, TUNED + np.float32(0.1)], [BASE, BASE], TOLERANCE)
