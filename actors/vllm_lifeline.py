"""Ends vLLM's processes when the server that started them is gone, however it went.

A worker that ends takes its engine core along; without this, an engine whose server was killed would hold its memory
forever.
"""

from __future__ import annotations

import os
import threading
import time

import psutil

SERVER_PID_VARIABLE = "CROUPIER_SERVER_PID"
"""Environment variable that names the server's process to the engine's processes."""
_PULSE_S = 1.0


def hold_on() -> None:
    """Ties this process to the server that the environment names; does nothing in the server itself."""
    pid = os.environ.get(SERVER_PID_VARIABLE)
    if pid is None or int(pid) == os.getpid():
        return
    try:
        server = psutil.Process(int(pid))
    except psutil.NoSuchProcess:
        os._exit(1)
    threading.Thread(target=_follow, args=(server,), name="croupier-lifeline", daemon=True).start()


def _follow(server: psutil.Process) -> None:
    # A zombie is gone too: its memory is free, only nobody has asked for its exit code yet.
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
        time.sleep(_PULSE_S)
    os._exit(1)
