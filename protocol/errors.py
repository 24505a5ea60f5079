"""Every error that may cross a process boundary.

Each class is also a standard-library error, so callers may catch either. All of them survive pickling (Ray
ships them between processes) and carry the cure next to the complaint.
"""

from __future__ import annotations


class CroupierError(Exception):
    """Base of all Croupier errors: what happened, and what to do about it.

    Args:
        message: What went wrong, with the offending value and the limit it broke.
        cure: One sentence that tells the user what to change; empty when there is nothing to do.
    """

    def __init__(self, message: str, cure: str = "") -> None:
        # Both arguments go into `args`, so pickling rebuilds the error exactly.
        super().__init__(message, cure)
        self.message = message
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.message} Cure: {self.cure}" if self.cure else self.message


class ConfigError(CroupierError, ValueError):
    """A configuration key is unknown, a value is out of bounds, or two values contradict each other."""


class PlacementError(CroupierError, RuntimeError):
    """The requested processes do not fit on the machines that are there."""


class ModelFolderError(CroupierError, FileNotFoundError):
    """A model folder is missing or lacks a file that a Hugging Face model needs."""


class SchemaError(CroupierError, ValueError):
    """A record batch lacks a column, or a column has another type than the schema says."""


class SchemaVersionError(SchemaError):
    """A record batch was written under another version of the schema."""


class TrajectoryError(CroupierError, ValueError):
    """The steps handed over do not form a trajectory (unequal lengths, a missing bootstrap or frame)."""


class AdapterRejected(CroupierError, ValueError):
    """A server refused an adapter: wrong digest, reused version, or a canary that did not reproduce."""


class UnknownPolicyVersion(CroupierError, LookupError):
    """A request named a policy version that this server does not hold (never published, or retired)."""


class RequestRefused(CroupierError, ValueError):
    """A sample request is malformed: placeholders without images, unknown ids, a prompt too long."""


class ServerStartError(CroupierError, RuntimeError):
    """An inference server did not come up."""


class ServerDied(CroupierError, RuntimeError):
    """An inference server's engine is gone; the server has to be rebuilt and re-synced."""


class WorkerDied(CroupierError, RuntimeError):
    """Rollout workers kept dying beyond the restart budget."""


class LearnerDied(CroupierError, RuntimeError):
    """The learner's process is gone; the run goes on from its last checkpoint with `resume`."""


class LearnerGroupBroken(CroupierError, RuntimeError):
    """The processes of one learner no longer work together: one is gone, is late, or holds other weights."""


class DeadlineExceeded(CroupierError, TimeoutError):
    """A wait ended without its event; the message names what was waited for and for how long (seconds)."""


class CheckpointError(CroupierError, RuntimeError):
    """A checkpoint is missing, incomplete, or belongs to another model or configuration."""


class UpdateDiverged(CroupierError, ArithmeticError):
    """The learner met a non-finite loss or gradient and did not apply it."""


class EnvironmentFailed(CroupierError, RuntimeError):
    """An environment raised at several steps in a row; restarting its episode does not help."""


class ExpertFailed(CroupierError, RuntimeError):
    """The scripted expert of a task has nothing to show: it knows no answer in any episode."""
