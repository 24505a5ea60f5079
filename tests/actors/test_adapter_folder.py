import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from actors import adapter_files, adapter_folder
from actors.adapter_folder import AdapterFolder
from protocol.errors import AdapterRejected, DeadlineExceeded, ServerStartError
from tests.actors.fake_engine import fake_package
from tests.actors.test_shared_folder import killed

PACKAGE = fake_package(3)
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def writes(monkeypatch) -> list[str]:
    """Who wrote files, in turn."""
    writers: list[str] = []

    def write(home, package, server_id):
        writers.append(server_id)
        adapter_files.write_files(home, package, server_id)

    monkeypatch.setattr(adapter_folder, "write_files", write)
    return writers


def homes(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("croupier-adapters-*/*"))


def test_an_adapter_lies_under_its_version_and_digest(tmp_path):
    folder = AdapterFolder("server/1", tmp_path)
    path = folder.hold(PACKAGE)
    assert path.name == "policy-v3" and (path / WEIGHTS).read_bytes() == PACKAGE.weights
    assert homes(tmp_path) == [f"policy-v3-{PACKAGE.manifest.digest.hex()}"]
    assert folder.path.stat().st_mode & 0o077 == 0, "nobody else's business"


def test_servers_of_a_node_share_one_write(tmp_path, writes):
    folders = [AdapterFolder(f"s{i}", tmp_path) for i in range(8)]
    barrier, paths = threading.Barrier(8), []

    def hold(folder):
        barrier.wait()
        paths.append(folder.hold(PACKAGE))

    threads = [threading.Thread(target=hold, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(writes) == 1 and len(paths) == 8 and len(set(paths)) == 1
    assert len(homes(tmp_path)) == 1


def test_other_weights_under_the_same_version_have_another_place(tmp_path, writes):
    """Of another run on the node."""
    one, two = AdapterFolder("a", tmp_path), AdapterFolder("b", tmp_path)
    paths = [one.hold(PACKAGE), two.hold(fake_package(3, shift=2.0))]
    assert paths[0] != paths[1] and writes == ["a", "b"]
    assert (paths[0] / WEIGHTS).read_bytes() != (paths[1] / WEIGHTS).read_bytes()


def test_files_stay_until_the_last_server_lets_go(tmp_path, writes):
    one, two = AdapterFolder("a", tmp_path), AdapterFolder("b", tmp_path)
    path = one.hold(PACKAGE)
    assert two.hold(PACKAGE) == path
    one.release(path)
    one.release(path)
    assert (path / WEIGHTS).read_bytes() == PACKAGE.weights
    assert one.hold(PACKAGE) == path and writes == ["a"], "and may be held once more"
    one.release(path)
    two.release(path)
    assert homes(tmp_path) == []


def test_holding_twice_needs_one_release(tmp_path, writes):
    folder = AdapterFolder("a", tmp_path)
    assert folder.hold(PACKAGE) == folder.hold(PACKAGE)
    folder.release(folder.hold(PACKAGE))
    assert homes(tmp_path) == [] and writes == ["a"]


def test_closing_takes_what_is_left_and_nothing_of_the_others(tmp_path):
    one, two = AdapterFolder("a", tmp_path), AdapterFolder("b", tmp_path)
    path, _ = two.hold(PACKAGE), one.hold(PACKAGE)
    one.hold(fake_package(4))
    one.close()
    one.close()
    assert homes(tmp_path) == [path.parent.name] and path.exists()
    two.close()
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_dies_half_way_is_followed_by_the_next(tmp_path, writes, monkeypatch):
    def die(home, package, server_id):
        (home / "policy-v3").mkdir()
        (home / "policy-v3" / WEIGHTS).write_bytes(bytes(package.weights)[:9])
        os.kill(os.getpid(), signal.SIGKILL)

    later = AdapterFolder("later", tmp_path)  # was there before: it does not sweep
    with monkeypatch.context() as patch:
        patch.setattr(adapter_folder, "write_files", die)
        killed(lambda: AdapterFolder("dead", tmp_path).hold(PACKAGE))
    assert len(homes(tmp_path)) == 1
    began = time.monotonic()
    path = later.hold(PACKAGE)
    assert time.monotonic() - began < 5, "nobody waits for the dead"
    assert writes == ["later"] and (path / WEIGHTS).read_bytes() == PACKAGE.weights


def test_who_waits_goes_on_when_the_writer_dies(tmp_path, writes, monkeypatch):
    read, write = os.pipe()

    def hang(home, package, server_id):
        os.write(write, b"x")
        signal.pause()

    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(adapter_folder, "write_files", hang)
        AdapterFolder("hanging", tmp_path).hold(PACKAGE)
        os._exit(0)
    os.read(read, 1)
    waiting = AdapterFolder("waiting", tmp_path)
    paths: list[Path] = []
    thread = threading.Thread(target=lambda: paths.append(waiting.hold(PACKAGE)))
    thread.start()
    time.sleep(0.05)
    assert not paths
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    thread.join(10)
    assert writes == ["waiting"] and paths[0].parent.name == homes(tmp_path)[0]


def test_a_writer_that_stands_still_costs_a_copy(tmp_path, writes, caplog):
    shared = tmp_path / f"croupier-adapters-{os.geteuid()}" / f"policy-v3-{PACKAGE.manifest.digest.hex()}"
    folder = AdapterFolder("a", tmp_path, patience_s=0.05)
    stuck = adapter_folder.SharedFolder.create(shared)
    path = folder.hold(PACKAGE)
    assert writes == ["a"] and path.parent.name.startswith(f"{shared.name}-") and path.name == "policy-v3"
    assert f"waited 0.05 s for {shared} to be written" in caplog.text
    assert stuck is not None and stuck.take_alone()
    folder.release(path)
    assert homes(tmp_path) == [shared.name]


def test_patience_ends_for_its_own_copy_too(tmp_path, monkeypatch):
    monkeypatch.setattr(adapter_folder.SharedFolder, "create", lambda path: None)
    with pytest.raises(DeadlineExceeded, match="waited 0.02 s for a folder in"):
        AdapterFolder("a", tmp_path, patience_s=0.02).hold(PACKAGE)


def test_damaged_files_are_not_trusted_and_not_touched_while_in_use(tmp_path, writes, caplog):
    one, two = AdapterFolder("a", tmp_path), AdapterFolder("b", tmp_path)
    path = one.hold(PACKAGE)
    os.truncate(path / WEIGHTS, 5)
    own = two.hold(PACKAGE)
    assert own != path and (own / WEIGHTS).read_bytes() == PACKAGE.weights
    assert (path / WEIGHTS).stat().st_size == 5
    assert "were changed while in use" in caplog.text and writes == ["a", "b"]
    two.release(own)
    one.release(path)
    assert homes(tmp_path) == []


def test_damaged_files_that_nobody_uses_are_written_anew(tmp_path, writes):
    later = AdapterFolder("later", tmp_path)
    killed(lambda: os.truncate(AdapterFolder("dead", tmp_path).hold(PACKAGE) / WEIGHTS, 5))
    assert (later.hold(PACKAGE) / WEIGHTS).read_bytes() == PACKAGE.weights


def test_proven_files_of_the_dead_are_good_enough(tmp_path, writes):
    later = AdapterFolder("later", tmp_path)
    killed(lambda: AdapterFolder("dead", tmp_path).hold(PACKAGE))
    assert (later.hold(PACKAGE) / WEIGHTS).read_bytes() == PACKAGE.weights
    assert writes == []


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("bad", [{"weights": pa.py_buffer(b"\0" * 8)}, {"config": b"{ }"}])
def test_bytes_that_the_manifest_does_not_name_are_refused_by_every_server(tmp_path, shared, bad):
    one, two = AdapterFolder("a", tmp_path), AdapterFolder("b", tmp_path)
    if shared:
        one.hold(PACKAGE)
    for _ in range(2):
        with pytest.raises(AdapterRejected, match="do not have the digest"):
            two.hold(replace(PACKAGE, **bad))
    assert len(homes(tmp_path)) == shared
    assert (two.hold(PACKAGE) / WEIGHTS).read_bytes() == PACKAGE.weights


def test_no_space_leaves_nothing_behind(tmp_path, monkeypatch):
    def fill(home, package, server_id):
        (home / "policy-v3").mkdir()
        raise OSError(28, "No space left on device")

    folder = AdapterFolder("a", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(adapter_folder, "write_files", fill)
        with pytest.raises(OSError, match="No space"):
            folder.hold(PACKAGE)
    assert homes(tmp_path) == []
    folder.hold(PACKAGE)


def test_a_later_server_sweeps_what_the_dead_held_but_not_what_is_in_use(tmp_path):
    living = AdapterFolder("living", tmp_path)
    path = living.hold(PACKAGE)

    def hold_two():
        dead = AdapterFolder("dead", tmp_path)
        dead.hold(PACKAGE)
        dead.hold(fake_package(4))

    killed(hold_two)
    assert len(homes(tmp_path)) == 2
    AdapterFolder("later", tmp_path)
    assert homes(tmp_path) == [path.parent.name]


def test_removing_everything_by_hand_does_no_lasting_harm(tmp_path, writes):
    one, two = AdapterFolder("a", tmp_path), AdapterFolder("b", tmp_path)
    path = one.hold(PACKAGE)
    shutil.rmtree(one.path)
    assert two.hold(PACKAGE) == path
    one.release(path)
    assert (path / WEIGHTS).read_bytes() == PACKAGE.weights, "it is the other one's now"
    two.release(path)
    assert writes == ["a", "b"]
    one.close()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_no_folder_of_ours_is_refused(tmp_path):
    (tmp_path / f"croupier-adapters-{os.geteuid()}").symlink_to(tmp_path)
    with pytest.raises(ServerStartError, match="is no folder or belongs to user"):
        AdapterFolder("a", tmp_path)


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no writable /dev/shm")
def test_files_live_in_memory_by_default():
    folder = AdapterFolder("s")
    try:
        assert folder.path.parent.as_posix() == "/dev/shm"
    finally:
        folder.close()
