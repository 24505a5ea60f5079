"""A simulator's process, driven for real; the simulator in it is a fake."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from envs.alfworld.game_files import GameFile
from envs.alfworld.thor.process import SimulatorProcess
from envs.alfworld.thor.state import SimulatorError
from envs.errors import EnvSetupError
from tests.envs.alfworld.thor.fake_household import HEAT, FakeHousehold

FAKE = "tests.envs.alfworld.thor.fake_household:FakeHousehold"
GAME = GameFile("train/a", Path("/nowhere/game.tw-pddl"), HEAT)
COMMANDS = ("go to countertop 1", "take apple 1 from countertop 1", "look")


@pytest.fixture
def launch():
    """Starts processes, and ends those that a failed test leaves."""
    started = []

    def run(simulator=FAKE, start_timeout_s=30.0, answer_timeout_s=30.0, python=None, **arguments):
        interpreter = {"python": python} if python else {}
        process = SimulatorProcess(
            simulator, arguments, start_timeout_s=start_timeout_s, answer_timeout_s=answer_timeout_s, **interpreter
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.close()


def pid_of(process):
    assert process._process is not None
    return process._process.pid


def is_gone(group, timeout_s=10.0):
    """Whether a process group ends in time; the dead that nobody has collected yet count as ended."""
    deadline = time.monotonic() + timeout_s
    while any(lives_in(process, group) for process in psutil.process_iter()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def lives_in(process, group):
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def test_it_plays_as_the_simulator_itself(launch):
    process, alone = launch(), FakeHousehold()
    pairs = [(process.start(GAME), alone.start(GAME))]
    pairs += [(process.send(command), alone.send(command)) for command in COMMANDS]
    for far, near in pairs:
        assert (far.text, far.admissible, far.won, far.fraction) == (
            near.text,
            near.admissible,
            near.won,
            near.fraction,
        )
        assert np.array_equal(far.frame, near.frame)
    pid = pid_of(process)
    process.close()
    process.close()
    assert is_gone(pid)


def test_a_hanging_simulator_is_ended_at_the_deadline(launch):
    process = launch(sleeps_at="look", answer_timeout_s=0.2)
    process.start(GAME)
    pid = pid_of(process)
    message = (
        "waited 0.2 s for the simulator to answer 'look' in game 'train/a', and ended it; "
        "its last output: fake household: start\nfake household: look"
    )
    with pytest.raises(SimulatorError, match=message):
        process.send("look")
    assert is_gone(pid)
    with pytest.raises(SimulatorError, match="was ended before it was asked to answer 'look'"):
        process.send("look")


def test_a_game_that_does_not_begin_is_named(launch):
    process = launch(sleeps_at="start", answer_timeout_s=0.2)
    with pytest.raises(SimulatorError, match="waited 0.2 s for the simulator to begin game 'train/a'"):
        process.start(GAME)


def test_a_simulator_that_never_gets_ready_is_ended(launch):
    with pytest.raises(SimulatorError, match="waited 0.001 s for the simulator to get ready"):
        launch(start_timeout_s=0.001)


def test_a_dead_simulator_is_no_hang(launch):
    process = launch(dies_at="look")
    process.start(GAME)
    with pytest.raises(SimulatorError, match="the simulator ended instead of being able to answer 'look'"):
        process.send("look")


def test_death_between_two_calls_is_noticed(launch):
    process = launch("tests.envs.alfworld.thor.test_process:Parent")
    process.start(GAME)
    pid = pid_of(process)
    os.kill(pid, signal.SIGKILL)  # as where memory runs out: what it has started lives on
    with pytest.raises(SimulatorError, match="the simulator ended instead of being able to answer 'look'"):
        process.send("look")
    assert is_gone(pid)


def test_what_went_wrong_inside_is_told(launch):
    process = launch(breaks_at="look")
    process.start(GAME)
    with pytest.raises(
        SimulatorError, match="(?s)not able to answer 'look' in game 'train/a': broke at look;.*Traceback"
    ):
        process.send("look")


def test_what_is_missing_is_a_matter_of_setup(launch):
    with pytest.raises(EnvSetupError, match="not able to get ready: left is no package"):
        launch("tests.envs.alfworld.thor.test_process:Unprepared")
    with pytest.raises(EnvSetupError, match="cannot run the simulator's interpreter '/no/python'"):
        launch(python="/no/python")
    with pytest.raises(SimulatorError, match="unexpected keyword argument 'speed'"):
        launch(speed=3)


def test_it_ends_by_itself_with_its_children_when_nobody_is_left(launch):
    process = launch("tests.envs.alfworld.thor.test_process:Parent")
    pid = pid_of(process)
    process._link.close()  # as when the environment's own process is killed
    process._process.wait(10)
    assert is_gone(pid)


def test_a_dying_thread_is_told_while_the_simulator_waits_for_it(launch):
    process = launch("tests.envs.alfworld.thor.test_process:Threaded")
    with pytest.raises(SimulatorError, match="not able to begin game 'train/a': Unity exited with 1"):
        process.start(GAME)


class Unprepared:
    """Lacks something."""

    def __init__(self):
        raise EnvSetupError("left is no package")


class Parent(FakeHousehold):
    """Starts a process of its own, as THOR starts Unity."""

    def __init__(self):
        super().__init__()
        os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "600")


class Threaded(FakeHousehold):
    """Waits for ever for a thread that is dead, as ai2thor does when Unity has exited."""

    def start(self, game):
        import threading

        def keep():
            raise RuntimeError("Unity exited with 1")

        threading.Thread(target=keep).start()
        time.sleep(600)
        raise AssertionError
