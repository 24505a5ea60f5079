import pytest

from actors.sampler import SamplingParams
from protocol.errors import RequestRefused


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": 0.005}, "temperature is 0.005"),
        ({"temperature": 2.1}, "temperature is 2.1"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"stop": ("}}",)}, "'}}' is not a single ASCII character"),
        ({"stop": ("é",)}, "'é' is not a single ASCII character"),
    ],
)
def test_parameters_that_cannot_be_sampled_with(fields, complaint):
    with pytest.raises(RequestRefused, match=complaint):
        SamplingParams(**({"temperature": 1.0, "max_tokens": 8} | fields))


def test_the_closing_brace_is_the_default_stop():
    assert SamplingParams(temperature=0.0, max_tokens=1).stop == ("}",)
