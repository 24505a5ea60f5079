"""The tree as a whole: sizes, packages, and what the build would ship."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("protocol", "envs", "actors", "learner", "cluster", "tests")
MOST_LINES = 400


def python_files() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def test_no_file_is_too_long():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in python_files()}
    assert lengths
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_with_code_is_a_package(folder):
    folders = {path.parent for path in python_files() if path.is_relative_to(ROOT / folder)}
    assert folders
    assert [path for path in sorted(folders) if not (path / "__init__.py").is_file()] == []
