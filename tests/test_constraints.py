"""The constraint files fix every package that an installation brings, and nothing by halves."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FILES = ("cpu-py311", "gpu")
ALFWORLD = {
    "alfworld": "0.4.2",
    "fast-downward-textworld": "20.6.4",
    "jericho": "3.3.1",
    "tatsu": "5.8.3",
    "textworld": "1.7.0",
}


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "constraints" / f"{name}.txt").read_text().splitlines()
    parts = [line.partition("==") for line in lines if line and not line.startswith("#")]
    assert all(version for _, _, version in parts), "every line fixes one version"
    return {canonicalize_name(package): version for package, _, version in parts}


def requirements_of(extras: set[str]) -> list[Requirement]:
    """What pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [Requirement(text) for text in [*project["dependencies"], *(t for e in sorted(extras) for t in optional[e])]]


def everything_behind(requirements: list[Requirement]) -> set[str]:
    """Names of all packages that the requirements lead to, as far as they are installed here."""
    waiting, seen = list(requirements), set()
    names = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        names.add(name)
        if (name, *sorted(requirement.extras)) in seen:
            continue
        seen.add((name, *sorted(requirement.extras)))
        try:
            texts = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for text in texts:
            further = Requirement(text)
            if further.marker is None or any(further.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)):
                waiting.append(further)
    return names


def test_every_package_of_this_installation_is_fixed():
    on_gpu = "vllm" in {d.name for d in importlib.metadata.distributions()}
    found = everything_behind(requirements_of({"gpu" if on_gpu else "cpu", "dev", "alfworld"}))
    assert len(found) > 100
    assert sorted(found - pins("gpu" if on_gpu else "cpu-py311").keys()) == []


@pytest.mark.parametrize("name", FILES)
def test_alfworld_is_fixed_to_the_versions_its_wrapper_knows(name):
    fixed = pins(name)
    assert {package: fixed.get(package) for package in ALFWORLD} == ALFWORLD


@pytest.mark.parametrize(("name", "extra"), [("cpu-py311", "cpu"), ("gpu", "gpu")])
def test_the_fixed_versions_lie_within_the_ranges(name, extra):
    fixed = pins(name)
    outside = [
        str(requirement)
        for requirement in requirements_of({extra, "dev", "alfworld"})
        if not requirement.specifier.contains(fixed[canonicalize_name(requirement.name)])
    ]
    assert outside == []
