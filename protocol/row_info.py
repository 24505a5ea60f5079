"""Keys of the JSON object in a row's `info` column: the truth behind a row, for metrics and for choosing rows."""

TRUTH = "truth"
"""What the picture of the state shows, by name."""

RECOGNIZED = "recognized"
"""For every perception field of the response whether it is right; empty where nothing has to be read."""

SUCCESS = "success"
"""Whether the task counts the episode as a success; in the last row of an episode that the environment ended."""

ENVIRONMENT_REWARD = "environment_reward"
"""The environment's own reward, where the reward column holds something else."""
