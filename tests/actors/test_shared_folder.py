import os
import signal
import threading

import pytest

from actors.shared_folder import SharedFolder, sweep


def killed(action) -> None:
    """Does it in a process that is killed right after, as servers are."""
    pid = os.fork()
    if pid == 0:
        action()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def made(path) -> SharedFolder:
    folder = SharedFolder.create(path)
    assert folder is not None
    return folder


def opened(path) -> SharedFolder:
    folder = SharedFolder.open(path)
    assert folder is not None
    return folder


def test_whoever_makes_a_folder_has_it_alone_from_the_start(tmp_path):
    mine = made(tmp_path / "f")
    theirs = opened(tmp_path / "f")
    assert not theirs.take_shared() and not theirs.take_alone()
    assert mine.take_alone()
    assert SharedFolder.create(tmp_path / "f") is None
    assert [path.name for path in tmp_path.iterdir()] == ["f"], "the second attempt leaves nothing"


def test_many_share_and_none_of_them_has_it_alone(tmp_path):
    one, two = made(tmp_path / "f"), opened(tmp_path / "f")
    assert one.take_shared() and two.take_shared()
    assert not one.take_alone(), "and what it held has ended with that"
    assert two.take_alone()


def test_only_one_of_many_makes_it(tmp_path):
    barrier, folders = threading.Barrier(8), []

    def make() -> None:
        barrier.wait()
        folders.append(SharedFolder.create(tmp_path / "f"))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(folder is not None for folder in folders) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_removed_folder_cannot_be_had_by_its_old_lock(tmp_path):
    one, late = made(tmp_path / "f"), opened(tmp_path / "f")
    (one.path / "inner").mkdir()
    (one.path / "inner" / "file").write_bytes(b"x")
    one.remove()
    assert list(tmp_path.iterdir()) == []
    assert not late.take_shared() and not late.take_alone()
    again = made(tmp_path / "f")
    assert not late.take_alone(), "a new folder of the name is not the one that was opened"
    assert again.take_alone()


def test_what_the_dead_held_is_free(tmp_path):
    killed(lambda: made(tmp_path / "f"))
    assert opened(tmp_path / "f").take_alone()


def test_a_forked_child_does_not_hold_on_to_what_its_parent_let_go(tmp_path):
    folder = made(tmp_path / "f")
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(read, 1)
        os._exit(0)
    folder.close()
    try:
        assert opened(tmp_path / "f").take_alone()
    finally:
        os.write(write, b"x")
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)


def test_a_sweep_takes_what_nobody_uses(tmp_path):
    alone, shared = made(tmp_path / "alone"), made(tmp_path / "shared")
    assert shared.take_shared()
    killed(lambda: made(tmp_path / "dead"))
    half_removed, draft = tmp_path / ".gone-1", tmp_path / ".draft-1"
    half_removed.mkdir()
    (half_removed / "lock").touch()
    draft.mkdir()
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "file").touch()
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "shared", "strange"]
    assert alone.take_alone() and shared.take_shared()


@pytest.mark.parametrize("name", ["absent", "no lock in it"])
def test_there_is_nothing_to_open(tmp_path, name):
    (tmp_path / "no lock in it").mkdir()
    assert SharedFolder.open(tmp_path / name) is None


def test_nothing_can_be_made_where_the_parent_is_gone(tmp_path):
    assert SharedFolder.create(tmp_path / "gone" / "f") is None
