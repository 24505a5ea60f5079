import inspect
import pickle

import pytest

from protocol import errors
from protocol.errors import CroupierError

# Class -> the standard-library error that callers may catch instead.
STANDARD = {
    errors.ConfigError: ValueError,
    errors.PlacementError: RuntimeError,
    errors.ModelFolderError: FileNotFoundError,
    errors.SchemaError: ValueError,
    errors.SchemaVersionError: ValueError,
    errors.TrajectoryError: ValueError,
    errors.AdapterRejected: ValueError,
    errors.UnknownPolicyVersion: LookupError,
    errors.RequestRefused: ValueError,
    errors.ServerStartError: RuntimeError,
    errors.ServerDied: RuntimeError,
    errors.WorkerDied: RuntimeError,
    errors.LearnerDied: RuntimeError,
    errors.LearnerGroupBroken: RuntimeError,
    errors.DeadlineExceeded: TimeoutError,
    errors.CheckpointError: RuntimeError,
    errors.UpdateDiverged: ArithmeticError,
    errors.EnvironmentFailed: RuntimeError,
    errors.ExpertFailed: RuntimeError,
}


def test_the_table_names_every_error():
    found = {value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, CroupierError)}
    assert found - {CroupierError} == set(STANDARD)


@pytest.mark.parametrize(("kind", "standard"), STANDARD.items(), ids=lambda c: c.__name__)
def test_every_error_is_also_a_standard_one(kind, standard):
    with pytest.raises(standard) as caught:
        raise kind("what happened", "what to do")
    assert isinstance(caught.value, CroupierError)


@pytest.mark.parametrize(
    ("cure", "text"),
    [
        ("", "The limit is 3, not 4."),
        ("raise servers.count", "The limit is 3, not 4. Cure: raise servers.count"),
    ],
)
@pytest.mark.parametrize("kind", [CroupierError, *STANDARD], ids=lambda c: c.__name__)
def test_message_and_cure_survive_pickling(kind, cure, text):
    error = pickle.loads(pickle.dumps(kind("The limit is 3, not 4.", cure)))
    assert type(error) is kind
    assert (error.message, error.cure) == ("The limit is 3, not 4.", cure)
    assert str(error) == text


def test_the_cure_may_be_left_out_or_named():
    assert str(errors.DeadlineExceeded("Waited 5 s.")) == "Waited 5 s."
    assert str(errors.DeadlineExceeded("Waited 5 s.", cure="wait longer")) == "Waited 5 s. Cure: wait longer"
