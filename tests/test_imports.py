"""Who may import whom: the rules of CONTRIBUTING.md, read from the source and seen in fresh processes."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGES = ("protocol", "envs", "actors", "learner", "cluster")

OURS_ALLOWED = {
    "protocol": {"protocol"},
    "envs": {"envs"},
    "actors": {"actors", "protocol", "envs"},
    "learner": {"learner", "protocol"},
    "cluster": set(PACKAGES),
}
# The simulators are optional: the modules that need them may fail to import where they are not installed.
SIMULATORS = {"alfworld", "textworld", "ai2thor"}
THIRD_PARTY_ALLOWED = {
    "protocol": {"numpy", "pyarrow"},
    "envs": {"gymnasium", "numpy", "PIL", "yaml", *SIMULATORS},
}
SERVER_FILES = ("actors/vllm_*.py", "actors/transformers_*.py")
TORCH_HOMES = ("learner/*", "cluster/*", *SERVER_FILES)
THIRD_PARTY_HOMES = {
    "ray": ("cluster/*",),
    "vllm": ("actors/vllm_*.py",),
    "torch": TORCH_HOMES,
    "torchvision": TORCH_HOMES,
    "transformers": TORCH_HOMES,
    "peft": TORCH_HOMES,
}
# What importing every module of a package, server files apart, must not bring into the process.
NOT_LOADED = {
    "protocol": {"torch", "transformers", "ray", "vllm", "gymnasium", "envs", "actors", "learner", "cluster"},
    "envs": {"torch", "transformers", "ray", "vllm", "protocol", "actors", "learner", "cluster"},
    "actors": {"torch", "transformers", "peft", "ray", "vllm", "learner", "cluster"},
    "learner": {"ray", "vllm", "envs", "actors", "cluster"},
    "cluster": {"tests"},
}


@dataclass(frozen=True)
class Import:
    """One imported module, and the place of the statement."""

    path: str
    line: int
    module: str

    @property
    def root(self) -> str:
        return self.module.split(".")[0]

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.module}"


def find_imports(source: str, path: str) -> Iterator[Import]:
    """Every import statement of a source, those inside functions and `if TYPE_CHECKING` included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(path, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield Import(path, node.lineno, "." * node.level + (node.module or ""))


@cache
def imports_of(package: str) -> tuple[Import, ...]:
    files = sorted((ROOT / package).rglob("*.py"))
    found = (find_imports(file.read_text("utf-8"), file.relative_to(ROOT).as_posix()) for file in files)
    return tuple(one for group in found for one in group)


def is_third_party(root: str) -> bool:
    return root not in sys.stdlib_module_names and root not in (*PACKAGES, "tests", "")


def violations(imports: tuple[Import, ...], package: str) -> list[str]:
    """The imports that break a rule, as readable lines."""
    broken = []
    for one in imports:
        allowed = THIRD_PARTY_ALLOWED.get(package)
        homes = THIRD_PARTY_HOMES.get(one.root)
        if (
            one.module.startswith(".")
            or one.root == "tests"
            or (one.root in PACKAGES and one.root not in OURS_ALLOWED[package])
            or (allowed is not None and is_third_party(one.root) and one.root not in allowed)
            or (homes is not None and not any(fnmatch(one.path, home) for home in homes))
        ):
            broken.append(str(one))
    return broken


@pytest.mark.parametrize(
    ("package", "path", "source", "broken"),
    [
        ("protocol", "protocol/a.py", "import numpy, pyarrow.ipc, json", 0),
        ("protocol", "protocol/a.py", "import gymnasium", 1),
        ("protocol", "protocol/a.py", "from . import b", 1),
        ("envs", "envs/a.py", "def f():\n    from protocol import schema", 1),
        ("envs", "envs/alfworld/a.py", "import alfworld.agents, textworld", 0),
        ("actors", "actors/worker.py", "import protocol.schema, envs, numpy", 0),
        ("actors", "actors/worker.py", "import torch, ray, learner.policy", 3),
        ("actors", "actors/vllm_server.py", "import vllm.v1, torch", 0),
        ("actors", "actors/transformers_server.py", "import torch, transformers, vllm", 1),
        ("learner", "learner/tiny/a.py", "import torch, peft, protocol", 0),
        ("learner", "learner/a.py", "import envs, vllm, ray.data, actors.worker", 4),
        ("cluster", "cluster/a.py", "import ray, torch, learner, actors, envs, protocol", 0),
        ("cluster", "cluster/a.py", "import tests.fakes, vllm", 2),
    ],
)
def test_the_rules_catch_what_they_name(package, path, source, broken):
    assert len(violations(tuple(find_imports(source, path)), package)) == broken


@pytest.mark.parametrize("package", PACKAGES)
def test_directions_in_the_source(package):
    assert imports_of(package), f"{package}/ holds no imports at all: is it there?"
    assert violations(imports_of(package), package) == []


def module_names(package: str) -> list[str]:
    """Dotted names of a package's modules, except server files and entry points."""
    paths = sorted(file.relative_to(ROOT) for file in (ROOT / package).rglob("*.py"))
    return [
        ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for path in paths
        if path.name != "__main__.py" and not any(fnmatch(path.as_posix(), home) for home in SERVER_FILES)
    ]


def loaded_after_importing(modules: list[str]) -> set[str]:
    """Top-level names in `sys.modules` of a fresh process that imported these modules."""
    code = f"""
import importlib, json, sys
for name in {modules!r}:
    try:
        importlib.import_module(name)
    except Exception as error:
        # A module that needs an absent simulator says so in words of its own, from this cause.
        missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
        if not isinstance(missing, ModuleNotFoundError) or str(missing.name).split(".")[0] not in {SIMULATORS!r}:
            raise
print(json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize("package", PACKAGES)
def test_directions_in_a_fresh_process(package):
    loaded = loaded_after_importing(module_names(package))
    assert package in loaded
    assert loaded & NOT_LOADED[package] == set()


def declared_distributions() -> set[str]:
    """Canonical names of every distribution that pyproject.toml asks for, all extras but `dev` included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for name, texts in project["optional-dependencies"].items() if name != "dev" for text in texts]
    return {canonicalize_name(Requirement(text).name) for text in [*project["dependencies"], *extras]}


def test_every_imported_library_is_a_declared_dependency():
    declared, sources = declared_distributions(), packages_distributions()
    undeclared = [
        str(one)
        for package in PACKAGES
        for one in imports_of(package)
        if is_third_party(one.root)
        and one.root not in SIMULATORS
        and not declared & {canonicalize_name(name) for name in sources.get(one.root, [])}
    ]
    assert undeclared == []


def test_package_list_is_the_installed_one():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    patterns = tool["setuptools"]["packages"]["find"]["include"]
    assert {re.sub(r"\.\*$", "", pattern) for pattern in patterns} == set(PACKAGES)
    assert [name for name in PACKAGES if not (ROOT / name / "__init__.py").is_file()] == []
