"""Checkpoints: a directory of safetensors and JSON, never a pickle; written under a temporary name, renamed
last.

    adapter/                   adapter_model.safetensors, adapter_config.json: opens unchanged in PEFT and vLLM
    value_head.safetensors
    optimizer.safetensors      Adam's state, flattened to `parameter/moment`
    counters.json              versions, ledger, published digests, moving averages of the update, identity

There is no random state to keep: every draw of the learner is seeded by the run's seed and the policy
version.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from learner.adapter_export import WEIGHTS_FILE, write_adapter
from learner.policy import Policy
from protocol.errors import CheckpointError

FORMAT = 2
"""Version of this layout, in counters.json."""

ADAPTER = Path("adapter")
"""Part of a checkpoint: the PEFT folder."""

_VALUE_HEAD = "value_head.safetensors"
_OPTIMIZER = "optimizer.safetensors"
_COUNTERS = "counters.json"
_SEPARATOR = "/"
_SAMPLED_BYTES = 1 << 20


def save_checkpoint(
    directory: Path | str, policy: Policy, optimizer: torch.optim.Optimizer, base_model: Path, counters: dict
) -> Path:
    """Write a checkpoint; an older one at the same place is replaced.

    Args:
        directory: where it will appear, complete; parents are created.
        policy: adapter and value head.
        optimizer: over the policy's parameters, adapter first.
        base_model: folder of the base weights, recorded and fingerprinted.
        counters: JSON-able state of the learner.
    """
    directory = Path(directory)
    staging = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        write_adapter(policy, base_model, staging / ADAPTER)
        save_file(_cpu(dict(policy.value_parameters())), staging / _VALUE_HEAD)
        save_file(_cpu(_optimizer_tensors(policy, optimizer)), staging / _OPTIMIZER)
        identity = {"format": FORMAT, "model": model_fingerprint(base_model), "shapes": _shapes(policy)}
        (staging / _COUNTERS).write_text(json.dumps(identity | counters, indent=2, sort_keys=True))
        _rename_over(staging, directory)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return directory


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A checkpoint that was read whole and fits the policy it was read for."""

    adapter: dict[str, torch.Tensor]
    value_head: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]
    """Adam's state, by `parameter/moment`."""
    counters: dict
    """As handed to `save_checkpoint`."""


def read_checkpoint(directory: Path | str, policy: Policy, base_model: Path) -> Checkpoint:
    """Read and check a checkpoint; changes nothing.

    Raises:
        CheckpointError: The directory is missing or incomplete, of another format, or it belongs to other
            base weights or to an adapter or value head of another shape.
    """
    directory = Path(directory)
    counters = _read_counters(directory)
    if counters.pop("model", None) != model_fingerprint(base_model):
        raise CheckpointError(
            f"Checkpoint {str(directory)!r} belongs to other base weights than those of {str(base_model)!r}.",
            "resume with the model folder that the run started from",
        )
    if counters.pop("shapes", None) != _shapes(policy):
        raise CheckpointError(
            f"Checkpoint {str(directory)!r} has an adapter or value head of another shape than configured.",
            "keep learner.lora and learner.ppo.value_hidden_sizes as they were when the run started",
        )
    adapter_file, critic_file = directory / ADAPTER / WEIGHTS_FILE, directory / _VALUE_HEAD
    adapter, critic = _read_tensors(adapter_file), _read_tensors(critic_file)
    moments = _read_tensors(directory / _OPTIMIZER)
    _require_names(adapter_file, adapter.keys() ^ get_peft_model_state_dict(policy.peft_model).keys())
    _require_names(critic_file, critic.keys() ^ policy.value_parameters().keys())
    _require_names(directory / _OPTIMIZER, {_split(k)[0] for k in moments} - policy.trained_parameters().keys())
    return Checkpoint(adapter, critic, moments, counters)


def apply_checkpoint(checkpoint: Checkpoint, policy: Policy, optimizer: torch.optim.Optimizer) -> None:
    """Put weights and optimizer into the state that the checkpoint holds, bit for bit."""
    set_peft_model_state_dict(policy.peft_model, checkpoint.adapter)
    policy.value_head.load_state_dict(checkpoint.value_head)
    number_of = {name: number for number, name in enumerate(policy.trained_parameters())}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in checkpoint.moments.items():
        name, moment = _split(key)
        state.setdefault(number_of[name], {})[moment] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def model_fingerprint(folder: Path) -> str:
    """SHA-256 (hex) over a model's configuration and over size, beginning and end of every weights file.

    Reading whole weights would take minutes for a large model; training changes every part of them anyway.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as handle:
            digest.update(handle.read(_SAMPLED_BYTES))
            handle.seek(max(0, size - _SAMPLED_BYTES))
            digest.update(handle.read())
    return digest.hexdigest()


def _rename_over(staging: Path, directory: Path) -> None:
    if not directory.exists():
        staging.rename(directory)
        return
    # A directory cannot be renamed onto one that holds files; the old one stays whole until the new one is in
    # place.
    retired = directory.with_name(f".{directory.name}.{os.getpid()}.old")
    directory.rename(retired)
    staging.rename(directory)
    shutil.rmtree(retired)


def _shapes(policy: Policy) -> dict[str, list[int]]:
    parameters = policy.adapter_parameters() | policy.value_parameters()
    return {name: list(p.shape) for name, p in parameters.items()} | {"lora_alpha": [policy.lora.alpha]}


def _optimizer_tensors(policy: Policy, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    names = list(policy.trained_parameters())
    state = optimizer.state_dict()["state"]
    return {
        f"{names[number]}{_SEPARATOR}{moment}": tensor
        for number, moments in state.items()
        for moment, tensor in moments.items()
    }


def _split(key: str) -> tuple[str, str]:
    """Parameter and moment of a key of the optimizer's file."""
    name, _, moment = key.rpartition(_SEPARATOR)
    return name, moment


def _cpu(tensors: dict) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _read_counters(directory: Path) -> dict:
    try:
        counters = json.loads((directory / _COUNTERS).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{str(directory)!r} is not a checkpoint: {_COUNTERS} cannot be read ({error}).",
            "name a directory below checkpoints/ of a run",
        ) from error
    found = counters.pop("format", None) if isinstance(counters, dict) else None
    if found != FORMAT:
        raise CheckpointError(
            f"Checkpoint {str(directory)!r} has format {found}, this build reads {FORMAT}.",
            "resume with the release of croupier that wrote it",
        )
    return counters


def _read_tensors(file: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"Checkpoint file {str(file)!r} cannot be read ({error}).", "resume from an older checkpoint"
        ) from error


def _require_names(file: Path, different: Collection[str]) -> None:
    if different:
        raise CheckpointError(
            f"Checkpoint file {str(file)!r} and this policy differ in {len(different)} tensors, "
            f"first {min(different)!r}."
        )
