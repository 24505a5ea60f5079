"""Roles are told by the process table; memory and files are those of the right process."""

import os
from types import SimpleNamespace

import psutil
import pytest

from actors.adapter_folder import AdapterFolder
from cluster.bench.soak_processes import ProcessRow, Roles, adapter_bytes, kind_of, read_table, usage_of
from tests.actors.fake_engine import fake_package

RAY = "/venv/ray/core/src/ray/"
RUN = [
    ProcessRow(10, 1, 0, "/venv/bin/python"),
    ProcessRow(11, 10, 1, RAY + "gcs/gcs_server"),
    ProcessRow(12, 10, 2, RAY + "raylet/raylet"),
    ProcessRow(13, 10, 3, "/venv/bin/python"),  # log monitor
    ProcessRow(20, 12, 4, "ray::LearnerActor"),
    ProcessRow(21, 12, 5, "ray::ServerActor"),
    ProcessRow(22, 12, 9, "ray::WorkerActor.stream"),
    ProcessRow(23, 12, 8, "ray::WorkerActor"),
    ProcessRow(24, 12, 7, "ray::IDLE"),
    ProcessRow(25, 12, 7, ""),  # ended, not collected yet
    ProcessRow(30, 21, 9, "VLLM::EngineCore"),
    ProcessRow(31, 30, 9, "/venv/bin/python"),  # a helper of the engine
    ProcessRow(32, 21, 9, "/venv/bin/python"),  # a helper of the server
]


def without(*pids: int) -> list[ProcessRow]:
    return [row for row in RUN if row.pid not in pids]


def test_every_process_has_its_role():
    assert Roles(10).attribute(RUN) == {
        10: "driver",
        11: "GCS",
        12: "raylet",
        13: "Ray's other processes",
        20: "learner",
        21: "inference server 1",
        22: "rollout worker 2",
        23: "rollout worker 1",
        24: "Ray's other processes",
        25: "Ray's other processes",
        30: "engine 1",
        31: "engine 1",
        32: "inference server 1",
    }


def test_a_process_keeps_its_number_and_leaves_it_to_its_successor():
    roles = Roles(10)
    roles.attribute(RUN)
    later = roles.attribute([*without(23), ProcessRow(40, 12, 50, "ray::WorkerActor")])
    assert (later[22], later[40]) == ("rollout worker 2", "rollout worker 1")


def test_engines_bear_the_numbers_of_their_servers():
    second = [ProcessRow(26, 12, 6, "ray::ServerActor"), ProcessRow(33, 26, 7, "VLLM::EngineCore")]
    found = Roles(10).attribute([*RUN, *second])
    assert (found[26], found[33], found[30]) == ("inference server 2", "engine 2", "engine 1")


def test_order_and_circles_do_not_matter():
    odd = [*reversed(RUN), ProcessRow(50, 51, 1, "a"), ProcessRow(51, 50, 1, "b")]
    found = Roles(10).attribute(odd)
    assert found.items() >= Roles(10).attribute(RUN).items() and found[50] == "Ray's other processes"


@pytest.mark.parametrize(("title", "kind"), [("", None), ("python", None), ("/a/raylet", "raylet"), ("raylets", None)])
def test_kinds_of_titles(title, kind):
    assert kind_of(title) == kind


def test_the_table_is_this_process_and_its_children():
    process = psutil.Process(os.getpid())
    rows, handles = read_table(process)
    assert rows[0].pid == process.pid and set(handles) == {row.pid for row in rows}
    assert all(row.parent in handles for row in rows[1:])


def test_usage_leaves_shared_memory_out():
    before = usage_of(psutil.Process())
    held = bytearray(os.urandom(1 << 20) * 32)
    with open(os.devnull) as _:
        after = usage_of(psutil.Process())
    assert before is not None and after is not None
    assert len(held) * 0.8 < after.own_bytes - before.own_bytes < len(held) * 2
    assert after.open_files > before.open_files
    assert after.own_bytes < after.proportional_bytes < after.own_bytes + (1 << 30)


def test_a_process_that_has_ended_uses_nothing():
    def gone(*_):
        raise psutil.NoSuchProcess(1)

    assert usage_of(SimpleNamespace(memory_full_info=gone)) is None  # type: ignore[arg-type]
    assert adapter_bytes([SimpleNamespace(open_files=gone)]) == 0  # type: ignore[arg-type]


def test_adapters_are_those_that_the_servers_hold_each_of_them_once(tmp_path):
    before = adapter_bytes([psutil.Process()])  # of servers that other tests left open
    package, servers = fake_package(3), [AdapterFolder(f"server-{n}", tmp_path) for n in range(2)]
    paths = {server.hold(package) for server in servers}
    others = servers[0].path / "policy-v4-of-another-run"
    others.mkdir()
    (others / "weights").write_bytes(bytes(5000))
    files = sum(file.stat().st_size for path in paths for file in path.iterdir())
    # Beside the adapter's files lie a lock and a record.
    assert len(package.weights) < files <= adapter_bytes([psutil.Process()]) - before < files + 2000
    for server in servers:
        server.close()
    assert adapter_bytes([psutil.Process()]) == before
