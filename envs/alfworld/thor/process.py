"""A simulator in a process of its own, where it can hang or die without harm to the environment.

The package waits for Unity without deadlines, prints, draws from global random generators and imports torch and old
versions of web libraries; none of that belongs in a rollout worker. The process may run under another interpreter,
one that has packages which this one must not have.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from envs.alfworld.game_files import GameFile
from envs.alfworld.thor.state import SimulatorError, SimulatorState
from envs.alfworld.thor.wire import pack_game, receive, send, unpack_state
from envs.errors import EnvError, EnvSetupError

LOG_CHARS = 1500
"""How much of the end of the process's output an error quotes."""

_SEND_TIMEOUT_S = 10.0
_EXIT_TIMEOUT_S = 10.0
_INSTALLED = ("site-packages", "dist-packages")


class SimulatorProcess:
    """Forwards the calls of a `Simulator` and gives up on one that does not answer in time.

    Args:
        simulator: "module:Class" of the simulator.
        arguments: for its constructor, plain JSON values.
        python: interpreter to run it with.
        start_timeout_s: for the process to start and the simulator to be made.
        answer_timeout_s: for the start of a game and for the answer to a command.

    Raises:
        EnvSetupError: the interpreter does not exist, or packages are missing there.
        SimulatorError: it failed, ended or did not get ready in time.
    """

    def __init__(
        self,
        simulator: str,
        arguments: Mapping[str, Any],
        *,
        python: str = sys.executable,
        start_timeout_s: float,
        answer_timeout_s: float,
    ) -> None:
        self._timeout_s = answer_timeout_s
        self._game = ""
        self._log = tempfile.TemporaryFile(buffering=0)
        self._link, far = socket.socketpair()
        command = [python, "-m", "envs.alfworld.thor.host", str(far.fileno()), simulator, json.dumps(dict(arguments))]
        try:
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                command,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[far.fileno()],
                start_new_session=True,
            )
        except OSError as error:
            self._link.close()
            self._log.close()
            raise EnvSetupError(f"cannot run the simulator's interpreter {python!r}: {error}") from error
        finally:
            far.close()
        self._wait("to get ready", start_timeout_s)

    def start(self, game: GameFile) -> SimulatorState:
        """Begin a game.

        Raises:
            SimulatorError: the simulator failed, ended or did not answer in time; it is ended by then.
        """
        self._game = f" in game {game.key!r}"
        self._log.seek(0)  # for the process too, which shares the offset
        self._log.truncate()  # what earlier games printed explains nothing any more
        return self._ask({"game": pack_game(game)}, f"to begin game {game.key!r}")

    def send(self, command: str) -> SimulatorState:
        """Play a command.

        Raises:
            SimulatorError: as `start`.
        """
        return self._ask({"command": command}, f"to answer {command!r}{self._game}")

    def close(self) -> None:
        """End the process with all that it started, without waiting for its consent."""
        process, self._process = self._process, None
        if process is None:
            return
        self._link.close()
        try:
            os.killpg(process.pid, signal.SIGKILL)  # the group is ours until its leader has been waited for
        except ProcessLookupError:
            pass
        try:
            process.wait(_EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise SimulatorError(
                f"waited {_EXIT_TIMEOUT_S:g} s for the killed simulator (process {process.pid}) to end; see what "
                "keeps it, such as a hanging driver or file system"
            ) from error
        finally:
            self._log.close()

    def _ask(self, request: Mapping[str, Any], what: str) -> SimulatorState:
        if self._process is None:
            raise SimulatorError(f"the simulator was ended before it was asked {what}")
        try:
            self._link.settimeout(_SEND_TIMEOUT_S)
            send(self._link, request)
        except OSError:
            pass  # why it is gone stands in its last message, or else in its output
        return unpack_state(*self._wait(what, self._timeout_s))

    def _wait(self, what: str, timeout_s: float) -> tuple[dict[str, Any], bytes]:
        try:
            message, payload = receive(self._link, timeout_s)
        except TimeoutError:
            self._give_up(f"waited {timeout_s:g} s for the simulator {what}, and ended it")
        except EOFError:
            self._give_up(f"the simulator ended instead of being able {what}")
        if "error" in message:
            kind = EnvSetupError if message["kind"] == "setup" else SimulatorError
            self._give_up(f"the simulator was not able {what}: {message['error']}", kind)
        return message, payload

    def _give_up(self, problem: str, kind: type[EnvError] = SimulatorError) -> NoReturn:
        self._log.seek(0)
        said = self._log.read().decode(errors="replace")[-LOG_CHARS:].strip()
        self.close()
        raise kind(f"{problem}; its last output: {said}" if said and kind is SimulatorError else problem)


def _environment() -> dict[str, str]:
    """This process's environment, where the other interpreter finds this package too.

    Installed packages are not handed on: those of one environment do not work in another.
    """
    root = Path(__file__).resolve().parents[3]
    paths = [] if root.name in _INSTALLED else [str(root)]
    given = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, *([given] if given else [])])}
