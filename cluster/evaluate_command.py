"""`croupier evaluate`: a panel of episodes for a run, a model folder, the scripted expert or chance."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from cluster.alfworld.scenes import generate_scenes
from cluster.config import default_config
from cluster.config.env import EnvConfig
from cluster.evaluation import EvaluationResult, Panel, evaluate
from cluster.players import PLAYERS, panel_player
from cluster.record.progress import RunProgress
from cluster.servers.served import ServedPolicy, find_policy, served_policy
from cluster.stages.model import env_maker
from cluster.workers.actor import WorkerSpec
from cluster.workers.pool import WorkerPool
from protocol.episode import EpisodeResult
from protocol.trajectory import DEMONSTRATION_VERSION


def evaluate_run_or_model(
    run_or_model: str, env_id: str, *, episodes: int, seed: int, temperature: float, overrides: Sequence[str]
) -> EvaluationResult:
    """Serve the policy, play the panel, sum it up.

    Args:
        run_or_model: Run directory, checkpoint folder or model folder; "expert" or "random" for a player without a
            model.
        env_id: Environment to play; empty for the run's own.
        episodes: Size of the panel.
        seed: Names the panel.
        temperature: 0 for greedy.
        overrides: `key.sub=value` on the run's configuration, e.g. `servers.kind=transformers`.

    Raises:
        ConfigError, CheckpointError, ModelFolderError, envs.errors.EnvError: Before any process is started.
        CroupierError: Whatever ended the evaluation.
    """
    if run_or_model in PLAYERS:
        return _reference(run_or_model, env_id, episodes, seed, overrides)
    source = find_policy(run_or_model, overrides)
    config, env = source.config, source.env(env_id, overrides)
    progress = RunProgress()
    generate_scenes(env, progress)
    env_maker(env)()[0].close()  # a misspelled id is reported before anything starts
    with ExitStack() as resources:
        with progress.phase("start inference servers and rollout workers"):
            served = resources.enter_context(served_policy(source))
            workers = _workers(served, env)
            resources.callback(workers.stop)
            workers.wait_started(config.ray.start_timeout_s)

        def play(seeds: Sequence[int], at: float) -> list[EpisodeResult]:
            return workers.run_episodes(
                seeds, served.policy_version, at, config.workers.rollout_timeout_s, meanwhile=served.servers.supervise
            )

        with progress.phase(f"evaluate {env.label}"):
            return evaluate(play, Panel(env, seed, episodes), served.policy_version, temperature)


def _reference(player: str, env_id: str, episodes: int, seed: int, overrides: Sequence[str]) -> EvaluationResult:
    """The same panel, played in this process; no server is needed."""
    env = default_config([f"env.id={env_id}", *overrides] if env_id else overrides).evaluated_env
    progress = RunProgress()
    generate_scenes(env, progress)
    with progress.phase(f"evaluate {env.label}, {player}", total=episodes) as phase:
        return evaluate(panel_player(env, player, phase.update), Panel(env, seed, episodes), DEMONSTRATION_VERSION, 0.0)


def _workers(served: ServedPolicy, env: EnvConfig) -> WorkerPool:
    config = served.source.config
    spec = WorkerSpec(
        run_id="evaluation",
        model=str(served.source.model),
        env=env,
        image_tokens={},  # learnt from the servers' replies
        slots=config.workers.envs_per_worker,
        max_tokens=config.rollout.max_tokens,
        seed=config.seed,
        deterministic=config.deterministic,
        sample_deadline_s=config.servers.patience_s,
    )
    return WorkerPool(spec, config.workers, served.servers.names, None, served.stop)
