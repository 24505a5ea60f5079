import json
from dataclasses import fields

import numpy as np
import pyarrow as pa
import pytest

from protocol.adapter import AdapterManifest, AdapterPackage, Canary, adapter_digest
from protocol.errors import CheckpointError
from protocol.package_files import load_package, save_package

FILES = ("adapter_config.json", "adapter_model.safetensors", "canaries.arrow", "manifest.json")


def package() -> AdapterPackage:
    weights, config = b"\x00weights\xff", b'{"r": 16}'
    manifest = AdapterManifest(7, adapter_digest(weights, config), 16, 32.0, ("q_proj", "v_proj"), len(weights))
    canaries = (
        Canary((1, 2), (b"png",), (3, 4), np.array([-0.1, -0.2], np.float32), np.array([-0.3, -0.4], np.float32)),
        Canary((5,), (), (6,), np.array([-1e-7], np.float32), np.array([-30.0], np.float32)),
    )
    return AdapterPackage(manifest, pa.py_buffer(weights), config, canaries)


def test_a_package_comes_back_as_it_was_saved(tmp_path):
    save_package(package(), tmp_path / "new" / "adapter")
    loaded = load_package(tmp_path / "new" / "adapter")
    assert loaded.manifest == package().manifest
    assert (loaded.weights.to_pybytes(), loaded.config) == (b"\x00weights\xff", b'{"r": 16}')
    for got, saved in zip(loaded.canaries, package().canaries, strict=True):
        for field in fields(Canary):
            mine, theirs = getattr(got, field.name), getattr(saved, field.name)
            assert np.asarray(mine).dtype == np.asarray(theirs).dtype
            assert np.array_equal(mine, theirs), field.name


def test_the_files_are_those_of_peft_and_two_of_ours(tmp_path):
    save_package(package(), tmp_path)
    assert tuple(sorted(path.name for path in tmp_path.iterdir())) == FILES
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == b"\x00weights\xff"
    assert json.loads((tmp_path / "manifest.json").read_text())["digest"] == package().manifest.digest.hex()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name, tmp_path):
    save_package(package(), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=f"lacks {name}"):
        load_package(tmp_path)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_other_bytes_than_the_manifest_names_are_refused(name, tmp_path):
    save_package(package(), tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b" ")
    with pytest.raises(CheckpointError, match="other bytes than its manifest names"):
        load_package(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "\x00", '{"digest": "00"}', '{"digest": "zz", "target_modules": []}'],
    ids=["empty", "torn", "a list", "binary", "half the keys", "no hexadecimal"],
)
def test_a_damaged_manifest_is_named(text, tmp_path):
    save_package(package(), tmp_path)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match="manifest.json is damaged"):
        load_package(tmp_path)


def test_a_manifest_with_a_key_of_another_release_is_named(tmp_path):
    save_package(package(), tmp_path)
    values = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(values | {"colour": "red"}))
    with pytest.raises(CheckpointError, match="colour"):
        load_package(tmp_path)


@pytest.mark.parametrize("kept_bytes", [0, 8, 200, -1])
def test_torn_canaries_are_named(kept_bytes, tmp_path):
    save_package(package(), tmp_path)
    whole = (tmp_path / "canaries.arrow").read_bytes()
    (tmp_path / "canaries.arrow").write_bytes(whole[:kept_bytes])
    with pytest.raises(CheckpointError, match="canaries.arrow is damaged"):
        load_package(tmp_path)


def test_canaries_of_another_shape_are_named(tmp_path):
    save_package(package(), tmp_path)
    table = pa.table({"prompt_token_ids": [[1]]})
    with pa.OSFile(str(tmp_path / "canaries.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(CheckpointError, match="canaries.arrow is damaged"):
        load_package(tmp_path)


def test_weights_of_any_bytes_come_back_bit_equal(tmp_path):
    weights = np.random.default_rng(0).bytes(1 << 16)
    manifest = AdapterManifest(0, adapter_digest(weights, b""), 1, 0.5, (), len(weights))
    save_package(AdapterPackage(manifest, pa.py_buffer(weights), b"", ()), tmp_path)
    loaded = load_package(tmp_path)
    assert loaded.weights.to_pybytes() == weights and loaded.manifest == manifest and loaded.canaries == ()
