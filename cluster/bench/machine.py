"""The machine under a benchmark, described well enough to judge its numbers."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from cluster.bench.result import Machine
from cluster.record.card import hardware, installed, versions

_CPU_INFO = Path("/proc/cpuinfo")
_MORE_PACKAGES = ("pillow", "alfworld", "textworld")
"""Packages beside those of the run card that decide what an environment costs."""


def describe_machine() -> Machine:
    """This machine and the versions installed on it."""
    known = hardware()
    return Machine(
        cpu=cpu_model(_CPU_INFO.read_text() if _CPU_INFO.is_file() else ""),
        cores=known["cpus"],
        usable_cores=len(os.sched_getaffinity(0)),
        memory_bytes=known["memory_bytes"],
        gpus=tuple(known["gpus"]),
        system=known["system"],
        load_average=round(os.getloadavg()[0], 2),
        versions=versions() | installed(_MORE_PACKAGES),
    )


def cpu_model(cpu_info: str) -> str:
    """The processor's name in the text of /proc/cpuinfo, with family and model where the name is all too general."""
    fields = dict(_fields(cpu_info.partition("\n\n")[0]))
    name = fields.get("model name") or fields.get("Processor") or platform.processor() or platform.machine()
    if "cpu family" in fields and "model" in fields:
        return f"{name} (family {fields['cpu family']}, model {fields['model']})"
    return name


def _fields(text: str) -> list[tuple[str, str]]:
    pairs = (line.partition(":") for line in text.splitlines())
    return [(key.strip(), value.strip()) for key, colon, value in pairs if colon]
