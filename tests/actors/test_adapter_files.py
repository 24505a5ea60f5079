import json
import os
from dataclasses import replace

import pyarrow as pa
import pytest

from actors.adapter_files import are_proven, check_agreement, peft_folder, write_files
from protocol.errors import AdapterRejected
from tests.actors.fake_engine import fake_package

PACKAGE = fake_package(3, shift=0.5)
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def home(tmp_path):
    write_files(tmp_path, PACKAGE, "server-1")
    return tmp_path


def test_files_and_record(home):
    folder = peft_folder(home, PACKAGE)
    assert folder == home / "policy-v3"
    assert (folder / WEIGHTS).read_bytes() == PACKAGE.weights
    assert (folder / "adapter_config.json").read_bytes() == PACKAGE.config
    assert sorted(os.listdir(folder)) == ["adapter_config.json", WEIGHTS]
    assert sorted(os.listdir(home)) == ["policy-v3", "record.json"]
    record = json.loads((home / "record.json").read_bytes())
    assert record["digest"] == PACKAGE.manifest.digest.hex()
    assert record["written_by"] == f"server-1, process {os.getpid()}"
    assert are_proven(home, PACKAGE)
    check_agreement(home, PACKAGE)


def cut(file):
    os.truncate(file, 10)


def zero(file):
    size = file.stat().st_size
    os.truncate(file, 0)
    os.truncate(file, size)


def change(file):
    with file.open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        opened.write(b"!")


def replace_file(file):
    stat = file.stat()
    data = file.read_bytes()
    file.rename(file.with_name("old"))
    file.write_bytes(data)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("damage", [cut, zero, change, replace_file, os.unlink])
@pytest.mark.parametrize("name", [WEIGHTS, "adapter_config.json"])
def test_files_that_were_touched_are_not_trusted(home, damage, name):
    damage(home / "policy-v3" / name)
    assert not are_proven(home, PACKAGE)


@pytest.mark.parametrize("record", [b"", b"[]", b"{}", b'{"digest": "00"}'])
def test_neither_is_a_damaged_record(home, record):
    (home / "record.json").write_bytes(record)
    assert not are_proven(home, PACKAGE)


def test_a_record_vouches_for_one_digest(home):
    assert not are_proven(home, fake_package(3, shift=0.75))


def test_what_a_dead_writer_left_is_written_anew(tmp_path):
    folder = tmp_path / "policy-v3"
    folder.mkdir()
    (folder / WEIGHTS).write_bytes(b"half")
    (folder / "strange").touch()
    (tmp_path / "record.json.draft").write_bytes(b"{")
    assert not are_proven(tmp_path, PACKAGE)
    write_files(tmp_path, PACKAGE, "s")
    assert are_proven(tmp_path, PACKAGE) and not (folder / "strange").exists()


@pytest.mark.parametrize("bad", [{"weights": pa.py_buffer(bytes(PACKAGE.weights)[:-1] + b"!")}, {"config": b"{ }"}])
def test_bytes_that_the_manifest_does_not_name_get_no_record(tmp_path, bad):
    package = replace(PACKAGE, **bad)
    with pytest.raises(AdapterRejected, match="do not have the digest"):
        write_files(tmp_path, package, "s")
    assert not (tmp_path / "record.json").exists() and not are_proven(tmp_path, package)


@pytest.mark.parametrize(
    "bad",
    [
        {"weights": pa.py_buffer(bytes(PACKAGE.weights) + b"!")},
        {"weights": pa.py_buffer(bytes(PACKAGE.weights)[:-1])},
        {"weights": fake_package(3, shift=0.5, name="another.lora_A.weight").weights},
        {"config": b"{ }"},
    ],
)
def test_a_package_that_differs_from_the_proven_files_is_the_one_that_is_wrong(home, bad):
    with pytest.raises(AdapterRejected, match="do not have the digest"):
        check_agreement(home, replace(PACKAGE, **bad))
    assert are_proven(home, PACKAGE)
