import os

import pyarrow as pa
import pytest

from actors.adapter_folder import AdapterFolder
from protocol.adapter import AdapterManifest, AdapterPackage

PACKAGE = AdapterPackage(AdapterManifest(3, b"d" * 32, 8, 16.0, (), 7), pa.py_buffer(b"weights"), b"{}", ())


def test_both_files_appear_under_the_name_of_the_version(tmp_path):
    path = AdapterFolder("server/1", tmp_path).write(PACKAGE)
    assert path.name == "policy-v3"
    assert (path / "adapter_model.safetensors").read_bytes() == b"weights"
    assert (path / "adapter_config.json").read_bytes() == b"{}"
    assert sorted(p.name for p in path.parent.iterdir()) == ["owner.lock", "policy-v3"]


def test_remove_takes_one_version_and_close_the_rest(tmp_path):
    folder = AdapterFolder("s", tmp_path)
    folder.remove(folder.write(PACKAGE))
    assert not (folder.path / "policy-v3").exists()
    folder.close()
    folder.close()
    assert list(tmp_path.iterdir()) == []


def test_a_later_server_sweeps_what_a_dead_one_left_but_not_what_is_in_use(tmp_path):
    living = AdapterFolder("living", tmp_path)
    pid = os.fork()
    if pid == 0:  # dies without closing, as a killed server does
        AdapterFolder("dead", tmp_path).write(PACKAGE)
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(list(tmp_path.glob("*-dead-*"))) == 1
    later = AdapterFolder("later", tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([living.path, later.path])


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no writable /dev/shm")
def test_files_live_in_memory_by_default():
    folder = AdapterFolder("s")
    try:
        assert folder.path.parent.as_posix() == "/dev/shm"
    finally:
        folder.close()
