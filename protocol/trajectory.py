"""Vocabulary of a trajectory: one row per environment step, and the enumerations its columns use.

Workers build these rows, the codec turns them into Arrow, the learner reads the Arrow columns directly.
Nothing here knows an environment, a tokenizer or a model.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

import numpy as np

DIGEST_BYTES = 32
"""Length of every digest in the protocol (SHA-256), in bytes."""

BASE_POLICY_VERSION = -1
"""`policy_version` of samples drawn from the base model without any adapter."""

DEMONSTRATION_VERSION = -2
"""`policy_version` of rows that a scripted expert wrote; their behaviour log-probs are 0 and no model sampled them."""

NO_DIGEST = bytes(DIGEST_BYTES)
"""`adapter_digest` of rows that no adapter sampled (demonstrations, evaluation of a bare model)."""


class EndReason(StrEnum):
    """Why a trajectory ends at a row; every row but the last of a trajectory says `NONE`."""

    NONE = "none"
    """The next row of the same trajectory follows."""
    TERMINATED = "terminated"
    """The environment reached a terminal state: no bootstrap."""
    TRUNCATED = "truncated"
    """The environment's step limit: bootstrap from the real next state."""
    CUT = "cut"
    """The batch was full while the episode went on: bootstrap from the real next state."""
    ENV_ERROR = "env_error"
    """The environment failed on the *next* action: bootstrap from the last state it showed."""

    @property
    def needs_bootstrap(self) -> bool:
        """Whether the row must carry the next state's prompt and frames (invariant 6)."""
        return self in (EndReason.TRUNCATED, EndReason.CUT, EndReason.ENV_ERROR)


class TokenRole(IntEnum):
    """What a sampled token counts as in log pi = lambda * sum(THOUGHT) + sum(ACTION)."""

    THOUGHT = 0
    """Text before the action key: perception fields and reasoning."""
    ACTION = 1
    """From the action key to the end of the JSON object, with the end-of-sequence token."""
    FORMAT = 2
    """Counted in neither sum: a leading brace or blank of its own, text after the object."""


class ParseStatus(StrEnum):
    """How the text of a response became an action."""

    OK = "ok"
    NO_ACTION_KEY = "no_action_key"
    """The text has no action key."""
    UNKNOWN_ACTION = "unknown_action"
    """The key is there, its value names no action of this environment."""
    AMBIGUOUS = "ambiguous"
    """The value names several actions."""
    ILLEGAL = "illegal"
    """The value names an action that is not legal in this state."""


def digest_of(data: bytes) -> bytes:
    """SHA-256 of `data`: 32 raw bytes."""
    return hashlib.sha256(data).digest()


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One environment step: everything the learner needs, exactly as it was sampled.

    Token arrays are one-dimensional: `prompt_token_ids` int32 [P] is the expanded prompt (one id per image
    patch, as the model saw it); `response_token_ids` int32 [T], `behavior_log_probs` float32 [T] (natural
    log, of the distribution actually sampled from) and `token_roles` int8 [T] run in parallel.
    """

    trajectory_id: str
    """Names one unbroken piece of one episode; unique in a run, so a repeated delivery is recognised."""
    run_id: str
    worker_id: str
    env_id: str
    task: str
    """Sub-task within the environment (ALFWorld's task type); empty where there is one task. In a mixture it begins
    with the component's name, followed by "/" and the component's own sub-task if it has any."""
    prompt_switches: str
    """JSON object: which variant of the task's language made the prompt (`envs.switches.PromptSwitches`)."""
    reset_seed: int
    """Seed that the environment was reset with: equal seeds of one environment begin in equal states."""
    episode_id: str
    step: int
    """Index of the step in its episode, from 0."""
    policy_version: int
    adapter_digest: bytes
    prompt_token_ids: np.ndarray
    frame_digests: tuple[bytes, ...]
    response_token_ids: np.ndarray
    behavior_log_probs: np.ndarray
    token_roles: np.ndarray
    response_text: str
    action: str
    """Text name of the action that the environment took (the fallback's, where the text was not usable)."""
    parse_status: ParseStatus
    legal: bool
    """Whether the action taken is the one the policy named."""
    reward: float
    terminated: bool
    truncated: bool
    end_reason: EndReason
    temperature: float
    """Sampling temperature; 0 means greedy."""
    info: str = "{}"
    """JSON object of ground truth (never shown to the policy); its keys are those of `protocol.row_info`."""
    sample_s: float = 0.0
    env_s: float = 0.0
    bootstrap_prompt_token_ids: np.ndarray | None = None
    """Expanded prompt of the real next state, int32 [P']; only where `end_reason.needs_bootstrap`."""
    bootstrap_frame_digests: tuple[bytes, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Frame:
    """One image, compressed (PNG), addressed by the digest of its compressed bytes."""

    digest: bytes
    data: bytes

    @classmethod
    def of(cls, data: bytes) -> Frame:
        """Wrap compressed bytes and compute their digest."""
        return cls(digest=digest_of(data), data=data)
