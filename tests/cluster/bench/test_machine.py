"""The machine is described by what the system says of it."""

import os
from importlib import metadata

import pytest

from cluster.bench.machine import cpu_model, describe_machine

X86 = "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: Other\n"


@pytest.mark.parametrize(
    ("cpu_info", "model"),
    [(X86, "AMD EPYC (family 26, model 2)"), ("model name : ARM : v8\n", "ARM : v8"), ("Processor: old\n", "old")],
)
def test_the_processor_is_named_by_its_first_entry(cpu_info, model):
    assert cpu_model(cpu_info) == model


def test_a_system_that_says_nothing_still_has_a_processor():
    assert cpu_model("")


def test_this_machine():
    machine = describe_machine()
    assert machine.cores == os.cpu_count() and 1 <= machine.usable_cores <= machine.cores
    assert machine.memory_bytes > 1 << 28
    assert machine.versions["pillow"] == metadata.version("pillow")
    assert machine.versions["numpy"] == metadata.version("numpy")
