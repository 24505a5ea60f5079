"""What has to fit together across the parts of a run's configuration; each check names both keys and the cure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cluster.config.stages import DPOStage, RejectionStage, RLStage, SFTStage, SFTStageConfig
from learner.algorithms.config import GROUP_ALGORITHMS

if TYPE_CHECKING:
    from cluster.config.run import RunConfig


def check_run(config: RunConfig) -> None:
    """Refuse contradictions.

    Raises:
        ValueError: The first one found.
    """
    _check_rollout(config)
    _check_adapters(config)
    _check_algorithm(config)
    _check_gpus(config)
    _check_turns(config)
    _check_derived(config)
    _check_determinism(config)


def check_stages(config: RunConfig) -> None:
    """Refuse stages that contradict each other, or keys that would have no effect beside them.

    Raises:
        ValueError: The first one found.
    """
    if not config.stages:
        return
    if config.sft not in (None, SFTStageConfig()):
        raise ValueError("sft has no effect beside stages: make it a stage of kind sft, or set sft=null")
    names = list(config.stages)
    for number, name in enumerate(names):
        _check_stage(config, name, names[:number])


def _check_stage(config: RunConfig, name: str, earlier: list[str]) -> None:
    stage = config.stages[name]
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"stages: the name {name!r} holds more than letters, digits, - and _; it names a folder")
    fixed = [key for key in ("gpus", "count") if key in stage.learner]
    if fixed:
        raise ValueError(f"stages.{name}.learner.{fixed[0]}: processes are placed for the whole run; set it there")
    if isinstance(stage, RejectionStage | DPOStage) and stage.samples.source in config.stages:
        source = str(stage.samples.source)
        if source not in earlier or isinstance(config.stages[source], SFTStage):
            raise ValueError(
                f"stages.{name}.samples.source is {source!r}, which keeps no sampled rows before this stage: name an "
                "earlier stage of kind rl, dpo or rejection"
            )
    before = config.stages[earlier[-1]] if earlier else None
    if isinstance(stage, RLStage) and isinstance(before, RLStage) and stage.adapter == "keep":
        for key in ("lora", "ppo.value_hidden_sizes"):
            mine, theirs = (_learner_value(config, one, key) for one in (name, earlier[-1]))
            if mine != theirs:
                raise ValueError(
                    f"stages.{name} keeps the adapter of {earlier[-1]} but has another learner.{key}: make them "
                    f"equal, or set stages.{name}.adapter=fresh"
                )
        if stage.optimizer == "keep":
            _check_kept_optimizer(config, name, earlier[-1])


def _check_kept_optimizer(config: RunConfig, name: str, before: str) -> None:
    mine, theirs = (config.of_stage(one).learner.algorithm for one in (name, before))
    if mine != theirs:
        raise ValueError(
            f"stages.{name} keeps the optimizer of {before} under another learner.algorithm ({mine}, not {theirs}): "
            f"set stages.{name}.optimizer=fresh"
        )


def _learner_value(config: RunConfig, stage: str, key: str) -> object:
    value: object = config.of_stage(stage).learner
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _check_rollout(config: RunConfig) -> None:
    slots = config.workers.count * config.workers.envs_per_worker
    if config.rollout.steps_per_update < slots:
        raise ValueError(
            f"rollout.steps_per_update is {config.rollout.steps_per_update}, fewer than the {slots} environments "
            "(workers.count * workers.envs_per_worker): raise the former or lower the latter"
        )
    _check_flow(config)
    if config.rollout.max_tokens >= config.servers.max_model_len:
        raise ValueError(
            f"rollout.max_tokens is {config.rollout.max_tokens}, which leaves no room for a prompt in "
            f"servers.max_model_len = {config.servers.max_model_len}: lower the former or raise the latter"
        )


def _check_flow(config: RunConfig) -> None:
    rollout, staleness = config.rollout, config.learner.max_staleness
    if rollout.chunk_steps is not None and rollout.steps_per_update % rollout.chunk_steps:
        raise ValueError(
            f"rollout.chunk_steps is {rollout.chunk_steps}, which does not divide rollout.steps_per_update = "
            f"{rollout.steps_per_update}: change one of them, or leave rollout.chunk_steps out"
        )
    if rollout.partial_episodes == "carry" and staleness == 0:
        raise ValueError(
            "rollout.partial_episodes is carry with learner.max_staleness = 0: rows that wait for the end of their "
            "episode are of an older policy by then; set learner.max_staleness=1, or leave the former out"
        )
    if config.deterministic and staleness:
        raise ValueError(
            f"deterministic needs lock-step, not learner.max_staleness = {staleness}: set learner.max_staleness=0, or "
            "deterministic=false"
        )


def _check_adapters(config: RunConfig) -> None:
    if config.learner.lora.rank > config.servers.max_lora_rank:
        raise ValueError(
            f"learner.lora.rank is {config.learner.lora.rank} but servers.max_lora_rank is "
            f"{config.servers.max_lora_rank}: raise the latter"
        )


def _check_algorithm(config: RunConfig) -> None:
    rollout = config.rollout
    if config.learner.algorithm in GROUP_ALGORITHMS and rollout.episodes_per_update % rollout.group_size:
        raise ValueError(
            f"rollout.episodes_per_update is {rollout.episodes_per_update}, no multiple of rollout.group_size = "
            f"{rollout.group_size}, which learner.algorithm={config.learner.algorithm} needs: change one of them"
        )


def _check_gpus(config: RunConfig) -> None:
    learner, servers = config.learner.gpus, config.servers
    if learner > 1 and learner != int(learner):
        raise ValueError(f"learner.gpus is {learner:g}: above 1 it must be a whole number")
    if config.learner.count > 1 and 0 < learner < 1:
        raise ValueError(
            f"learner.count is {config.learner.count} with learner.gpus = {learner:g}: learners cannot share a GPU; "
            "set learner.gpus=1, or learner.count=1"
        )
    if config.learner.compute.sharding != "none" and config.learner.count == 1:
        raise ValueError(
            f"learner.compute.sharding is {config.learner.compute.sharding} with learner.count = 1: one learner has "
            "nobody to share the weights with; raise learner.count or leave out learner.compute.sharding"
        )
    if servers.tensor_parallel > 1 and servers.gpus != 1:
        raise ValueError(
            f"servers.tensor_parallel is {servers.tensor_parallel} with servers.gpus = {servers.gpus:g}: a model is "
            "split over whole GPUs; set servers.gpus=1"
        )


def _check_turns(config: RunConfig) -> None:
    """Whether engines and learner can take turns on one GPU."""
    learner, servers = config.learner, config.servers
    if not servers.sleep_while_learning:
        return
    off = "set servers.sleep_while_learning=false"
    shares = f"learner.gpus = {learner.gpus:g} and {servers.count} server(s) of servers.gpus = {servers.gpus:g}"
    halves = "give both a share of one GPU (learner.gpus=0.5 servers.gpus=0.5)"
    if not servers.gpus or servers.device == "cpu":
        raise ValueError(
            f"servers.sleep_while_learning is true with servers.gpus = {servers.gpus:g} and servers.device = "
            f"{servers.device}: engines on CPU keep their memory, vLLM has no sleep there; {halves}, or {off}"
        )
    if not learner.gpus or learner.compute.device == "cpu":
        raise ValueError(
            f"servers.sleep_while_learning is true with learner.gpus = {learner.gpus:g} and learner.compute.device = "
            f"{learner.compute.device}: a learner on CPU needs no GPU memory of the engines'; {halves}, or {off}"
        )
    if learner.count > 1 or learner.gpus + servers.count * servers.gpus * servers.tensor_parallel > 1 + 1e-9:
        raise ValueError(
            f"servers.sleep_while_learning is true with learner.count = {learner.count}, {shares}: these are several "
            f"GPUs, where nobody needs the memory that sleeping engines give back; {halves}, or {off}"
        )
    if learner.max_staleness:
        raise ValueError(
            f"servers.sleep_while_learning is true with learner.max_staleness = {learner.max_staleness}: taking turns "
            f"is lock-step; set learner.max_staleness=0, or {off}"
        )
    if learner.compute.quantization != "none":
        raise ValueError(
            f"servers.sleep_while_learning is true with learner.compute.quantization = {learner.compute.quantization}: "
            f"4-bit weights cannot be moved to host memory and back; set learner.compute.quantization=none, or {off}"
        )


def _check_derived(config: RunConfig) -> None:
    """What follows from other keys is not set by itself, or a value would be ignored in silence."""
    for name in sorted(config.learner.ppo.thought_weights.keys() & config.env.mixture.keys()):
        if config.env.mixture[name].thought_weight is not None:
            raise ValueError(
                f"learner.ppo.thought_weights.{name} and env.mixture.{name}.thought_weight set the same number: "
                "leave one out"
            )
    servers = config.servers
    if servers.deterministic and not config.deterministic:
        raise ValueError("servers.deterministic follows deterministic: set deterministic=true instead")
    if servers.seed not in (0, config.seed):
        raise ValueError(f"servers.seed is {servers.seed}, but follows seed: set seed={servers.seed} instead")
    if servers.vision_adapters and config.learner.lora.targets == "language":
        raise ValueError("servers.vision_adapters follows learner.lora.targets: set learner.lora.targets=all instead")


def _check_determinism(config: RunConfig) -> None:
    servers = config.servers
    if not config.deterministic:
        return
    if (config.workers.count, servers.count) != (1, 1):
        raise ValueError(
            f"deterministic needs one worker and one server, not {config.workers.count} and "
            f"{servers.count}: set workers.count=1 servers.count=1"
        )
    if config.learner.gpus or servers.gpus:
        raise ValueError(
            f"deterministic needs CPU, not learner.gpus = {config.learner.gpus:g} and servers.gpus = "
            f"{servers.gpus:g}: set both to 0"
        )
