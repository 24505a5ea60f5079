import os
import subprocess
import sys
from pathlib import Path

from actors.vllm_lifeline import SERVER_PID_VARIABLE

ROOT = Path(__file__).parents[2]
WORKER = "import time; from actors.vllm_lifeline import hold_on; hold_on(); print('up', flush=True); time.sleep(60)"


def start_worker(server_pid: int) -> subprocess.Popen:
    environment = os.environ | {SERVER_PID_VARIABLE: str(server_pid), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", WORKER], env=environment, stdout=subprocess.PIPE)


def test_a_worker_ends_soon_after_its_server_is_killed_even_as_a_zombie():
    server = subprocess.Popen(["sleep", "60"])
    worker = start_worker(server.pid)
    assert worker.stdout is not None and worker.stdout.readline() == b"up\n"
    assert worker.poll() is None
    server.kill()  # and not waited for: it stays a zombie
    assert worker.wait(timeout=10) == 1
    server.wait()


def test_a_worker_whose_server_is_gone_already_does_not_start():
    server = subprocess.Popen(["true"])
    server.wait()
    worker = start_worker(server.pid)
    assert worker.wait(timeout=10) == 1
    assert worker.stdout is not None and worker.stdout.read() == b""
