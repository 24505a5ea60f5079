"""The simulator's side of its process: `python -m envs.alfworld.thor.host LINK MODULE:CLASS ARGUMENTS`.

`process` starts it with the number of an open socket, the simulator's class and its arguments as JSON. It leads a
process group, and ends with the whole group, Unity included, when the link closes, so that nothing outlives the
environment, however that ended.
"""

import json
import os
import queue
import signal
import socket
import sys
import threading
import traceback
from importlib import import_module
from typing import Any

from envs.alfworld.thor.state import Simulator
from envs.alfworld.thor.wire import pack_state, receive, send, unpack_game
from envs.errors import EnvSetupError

_SENDING = threading.Lock()  # a dying thread must not cut into the main thread's message
_LAST_WORDS_TIMEOUT_S = 5.0


def main() -> None:
    """Serve until the link closes or anything fails."""
    link = socket.socket(fileno=int(sys.argv[1]))
    link.set_inheritable(False)  # in the hands of a child the link would stay open after our death
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    # A thread of the package that dies (Unity's keeper, for one) leaves the others waiting for ever.
    threading.excepthook = lambda failed: _fail(link, failed.exc_value)
    threading.Thread(target=_listen, args=(link, requests), daemon=True).start()
    try:
        module, _, name = sys.argv[2].partition(":")
        simulator: Simulator = getattr(import_module(module), name)(**json.loads(sys.argv[3]))
        send(link, {"ready": True})
        while True:
            _answer(link, simulator, requests.get())
    except (Exception, SystemExit) as error:
        _fail(link, error)


def _answer(link: socket.socket, simulator: Simulator, request: dict[str, Any]) -> None:
    if "game" in request:
        state = simulator.start(unpack_game(request["game"]))
    else:
        state = simulator.send(request["command"])
    with _SENDING:
        send(link, *pack_state(state))


def _listen(link: socket.socket, requests: "queue.SimpleQueue[dict[str, Any]]") -> None:
    """Take requests, and notice at once when the environment is gone, whatever the simulator is busy with."""
    while True:
        try:
            requests.put(receive(link, None)[0])
        except (EOFError, OSError):
            _end()


def _fail(link: socket.socket, error: BaseException | None) -> None:
    """Tell what went wrong, if anybody is there to hear it, and end."""
    traceback.print_exception(error)
    sys.stderr.flush()
    kind = "setup" if isinstance(error, EnvSetupError) else "simulator"
    if _SENDING.acquire(timeout=_LAST_WORDS_TIMEOUT_S):
        try:
            send(link, {"error": str(error) or repr(error), "kind": kind})
        except OSError:
            pass
    _end()


def _end() -> None:
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
