"""The run configuration as everybody imports it: its parts, and how it is read from files and the command line.

Reading a configuration loads neither torch nor vLLM nor Ray, so that a mistake is reported at once. Each part has a
file of its own: `env_config`, `rollout_config`, `process_config`, `stage_config`, and `run_config`, which composes
them; the learner's own settings are in `learner.config`.
"""

from cluster.config.env import EnvConfig
from cluster.config.files import default_config, load_config, parse_config, save_config, shipped_configs
from cluster.config.processes import LearnerPartConfig, RayConfig, ServersConfig, WorkersConfig
from cluster.config.rollout import EvaluationConfig, RewardConfig, RolloutConfig
from cluster.config.run import CheckpointConfig, ModelConfig, RunConfig, TrackingConfig
from cluster.config.stages import DemonstrationConfig, SFTStageConfig

__all__ = [
    "CheckpointConfig",
    "DemonstrationConfig",
    "EnvConfig",
    "EvaluationConfig",
    "LearnerPartConfig",
    "ModelConfig",
    "RayConfig",
    "RewardConfig",
    "RolloutConfig",
    "RunConfig",
    "SFTStageConfig",
    "ServersConfig",
    "TrackingConfig",
    "WorkersConfig",
    "default_config",
    "load_config",
    "parse_config",
    "save_config",
    "shipped_configs",
]
