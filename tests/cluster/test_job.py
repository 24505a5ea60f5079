"""The same command as a Ray job: uploaded by `ray job submit --working-dir .`, without an install."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.running import LOCAL, REPOSITORY, environment

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(500)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def head(tmp_path: Path) -> Iterator[str]:
    """A Ray head of our own, ended by its process id; yields the address of its job server."""
    port, dashboard = free_port(), free_port()
    ray = str(Path(sys.executable).parent / "ray")
    command = [ray, "start", "--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}"]
    command += [
        "--num-cpus=8",
        "--include-dashboard=true",
        "--disable-usage-stats",
        f"--ray-client-server-port={free_port()}",
        f"--dashboard-agent-listen-port={free_port()}",  # another Ray of this machine may have the usual one
    ]
    log = tmp_path / "head.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment(RAY_AUTH_MODE="token"), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        address = f"http://127.0.0.1:{dashboard}"
        end = time.monotonic() + 90
        while not answers(address):
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/api/version", timeout=2)
    except urllib.error.HTTPError:
        return True  # it is there and asks for the token
    except OSError:
        return False
    return True


def submit(command: list[str], head: str) -> subprocess.CompletedProcess[str]:
    """Submit the job, again while the job agent, which starts after the server, is not there yet."""
    end = time.monotonic() + 90
    while True:
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=environment(RAY_API_SERVER_ADDRESS=head, RAY_AUTH_MODE="token"),
            capture_output=True,
            text=True,
            timeout=400,
        )
        if "No available agent" not in done.stderr or time.monotonic() > end:
            return done
        time.sleep(1.0)


def test_train_runs_as_a_ray_job_with_two_workers(head: str, tmp_path: Path) -> None:
    overrides = [
        f"runs_dir={tmp_path / 'runs'}",
        "name=job",
        "deterministic=false",
        "workers.count=2",
        "workers.envs_per_worker=16",
        "sft.steps=40",
        "rollout.updates=2",
        "rollout.steps_per_update=128",
        "evaluation.episodes=10",
    ]
    ray = str(Path(sys.executable).parent / "ray")
    command = [ray, "job", "submit", "--working-dir", ".", "--", "python", "-m", "cluster", "train", LOCAL, *overrides]
    done = submit(command, head)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs" / "job"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == [1, 2]
    assert all(row["rollout/env_steps"] == 128 for row in rows)
    results = json.loads((run / "card.json").read_text())["results"]
    assert sorted(results) == ["after_greedy", "after_sampled", "before_greedy", "before_sampled"]
    assert f"Run directory: {run}" in done.stdout
