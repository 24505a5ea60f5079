"""Ends vLLM's processes when the server that started them is gone, however it went.

vLLM loads the class below into its workers (`worker_extension_cls`). A worker that ends takes its engine core along;
without this, an engine whose server was killed would hold its memory forever.
"""

from __future__ import annotations

import os
import threading
import time

import psutil

SERVER_PID_VARIABLE = "CROUPIER_SERVER_PID"
"""Environment variable that names the server's process to the engine's processes."""
_PULSE_S = 1.0


class Lifeline:
    """Mixed into vLLM's worker class; importing this file in a worker does the work."""


def _follow(server: psutil.Process) -> None:
    # A zombie is gone too: its memory is free, only nobody has asked for its exit code yet.
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
        time.sleep(_PULSE_S)
    os._exit(1)


def _hold_on() -> None:
    pid = os.environ.get(SERVER_PID_VARIABLE)
    if pid is None or int(pid) == os.getpid():
        return
    try:
        server = psutil.Process(int(pid))
    except psutil.NoSuchProcess:
        os._exit(1)
    threading.Thread(target=_follow, args=(server,), name="croupier-lifeline", daemon=True).start()


_hold_on()
