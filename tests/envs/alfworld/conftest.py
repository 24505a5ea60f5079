"""Real games for the slow tests, generated once."""

import pytest


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """Folder with one training and one unseen game of every task type; skipped without the extra."""
    pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")
    from envs.alfworld.generator import Panel, write_panel
    from envs.alfworld.scene import Difficulty

    folder = tmp_path_factory.mktemp("tree")
    write_panel(Panel(Difficulty((4, 6), (3, 5), shared_places=0.3), 6, 0, 6, seed=11), folder)
    return folder


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache folder of this test's own."""
    monkeypatch.setenv("CROUPIER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
