"""Placement: what a run reserves, and that what cannot be placed is refused before anything is started."""

from typing import Any

import pytest
import ray

from cluster import preflight
from cluster.config import RayConfig, RunConfig, default_config
from cluster.preflight import check_before_start
from cluster.runtime.placement import Demand, Placement, check_fits, demand_of
from cluster.runtime.ray_session import ray_session
from cluster.train import train
from protocol.errors import DeadlineExceeded, ModelFolderError, PlacementError


@pytest.mark.parametrize(
    ("overrides", "bundles"),
    [
        ([], [{"CPU": 1}, {"CPU": 1}, {"CPU": 1}, {"CPU": 1}]),
        (["workers.count=1", "workers.cpus_per_worker=0.5"], [{"CPU": 1}, {"CPU": 1}, {"CPU": 0.5}]),
        (["workers.count=2", "workers.cpus_per_worker=0"], [{"CPU": 1}, {"CPU": 1}, {}, {}]),
        (
            ["learner.gpus=0.5", "servers.gpus=0.4", "workers.count=1"],
            [{"CPU": 1, "GPU": 0.5}, {"CPU": 1, "GPU": 0.4}, {"CPU": 1}],
        ),
        (
            ["learner.gpus=2", "servers.gpus=1", "servers.count=2", "servers.tensor_parallel=4", "workers.count=1"],
            [{"CPU": 1, "GPU": 2}, {"CPU": 1, "GPU": 4}, {"CPU": 1, "GPU": 4}, {"CPU": 1}],
        ),
        (
            ["learner.count=2", "learner.gpus=1", "servers.gpus=1", "workers.count=1"],
            [{"CPU": 1, "GPU": 1}, {"CPU": 1, "GPU": 1}, {"CPU": 1, "GPU": 1}, {"CPU": 1}],
        ),
    ],
    ids=["cpu", "half a CPU", "no CPU", "one-GPU mode", "eleven GPUs", "two learners"],
)
def test_one_bundle_per_process(overrides, bundles):
    assert list(demand_of(default_config(overrides)).bundles) == bundles


ALTERNATING = ["servers.sleep_while_learning=true", "learner.gpus=0.3", "servers.gpus=0.3", "workers.count=1"]


def test_who_takes_turns_asks_for_the_whole_gpu():
    demand = demand_of(default_config(ALTERNATING))
    assert demand.bundles == ({"CPU": 1, "GPU": 0.3}, {"CPU": 1, "GPU": 0.3}, {"CPU": 1})
    assert (demand.on_one_gpu, demand.cpus, demand.gpus) == (2, 3, 1)


class Seat:
    """A process that says which GPU it was given."""

    def gpu(self) -> int:
        (index,) = ray.get_gpu_ids()
        return int(index)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(120)
def test_learner_and_engine_that_take_turns_sit_on_one_gpu_of_several():
    ray.init(address="local", num_cpus=4, num_gpus=3, include_dashboard=False, log_to_driver=False)
    try:
        placement = Placement(default_config(ALTERNATING), deadline_s=30)
        chosen = [*placement.learner_options(), placement.server_options(0)]
        seats: list[Any] = [ray.remote(Seat).options(**options).remote() for options in chosen]
        assert len(set(ray.get([seat.gpu.remote() for seat in seats], timeout=60))) == 1
        assert ray.available_resources()["GPU"] == 2
        placement.release()
    finally:
        ray.shutdown()


def test_the_demand_is_the_sum_of_its_bundles():
    demand = Demand(({"CPU": 1.0, "GPU": 0.5}, {"CPU": 0.5}, {}))
    assert (demand.cpus, demand.gpus) == (1.5, 0.5)


@pytest.mark.parametrize(
    ("cpus", "gpus", "told"),
    [(4, 1, None), (4, 0.5, ("asks for 1 GPU", "has 0.5", "learner.gpus")), (3, 1, ("4 CPU", "has 3", "workers."))],
)
def test_what_does_not_fit_is_told_with_the_keys_to_change(cpus, gpus, told):
    demand = Demand(({"CPU": 4.0, "GPU": 1.0},))
    if told is None:
        check_fits(demand, cpus, gpus, where="this machine")
        return
    with pytest.raises(PlacementError) as caught:
        check_fits(demand, cpus, gpus, where="this machine")
    for part in ("this machine", *told):
        assert part in str(caught.value)


@pytest.fixture
def two_gpus(monkeypatch):
    """This machine pretends to have two GPUs, and Ray must not be started."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(preflight, "local_gpus", lambda: 2)
    monkeypatch.setattr(ray, "init", fail)


def config_of(*overrides: str) -> RunConfig:
    return default_config(overrides)


@pytest.mark.usefixtures("two_gpus")
def test_a_private_cluster_has_the_cpus_it_needs_but_no_more_gpus_than_the_machine():
    check_before_start(config_of("workers.count=500", "rollout.steps_per_update=16000", "learner.gpus=2"))
    check_before_start(config_of("learner.gpus=1", "servers.gpus=0.5", "servers.count=2"))
    with pytest.raises(PlacementError, match="asks for 2.5 GPU"):
        check_before_start(config_of("learner.gpus=2", "servers.gpus=0.5"))


@pytest.mark.usefixtures("two_gpus")
def test_gpus_of_a_named_cluster_are_not_judged_by_this_machine(monkeypatch):
    config = config_of("learner.gpus=8")
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    check_before_start(config)
    with pytest.raises(PlacementError):
        check_before_start(config_of("learner.gpus=8", "ray.address=local"))


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("override", "error"), [("learner.gpus=3", PlacementError), ("model.path=/no/such/folder", ModelFolderError)]
)
def test_a_hopeless_run_leaves_nothing_behind(tmp_path, override, error):
    with pytest.raises(error):
        train(config_of(f"runs_dir={tmp_path / 'runs'}", override))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.ray
def test_resources_are_reserved_spread_over_the_processes_and_given_back():
    with ray_session(RayConfig(address="local"), logical_cpus=4):
        with pytest.raises(PlacementError, match="asks for 5 CPU.*the Ray cluster has 4"):
            Placement(config_of("workers.count=3"), deadline_s=5)
        placement = Placement(config_of("workers.cpus_per_worker=0.5"), deadline_s=20)
        options = [*placement.learner_options(), placement.server_options(0), placement.worker_options(1)]
        assert [o["num_cpus"] for o in options] == [1, 1, 0.5]
        pinged = [ray.remote(lambda: 1).options(**o).remote() for o in options]  # type: ignore[attr-defined]
        assert ray.get(pinged, timeout=30) == [1, 1, 1]
        with pytest.raises(DeadlineExceeded, match="Waited 1 s for 4 CPU"):
            Placement(config_of(), deadline_s=1)
        placement.release()
        second = Placement(config_of("workers.cpus_per_worker=0", "workers.count=3"), deadline_s=20)
        assert second.worker_options(2) == {
            "num_cpus": 0,
            "scheduling_strategy": "SPREAD",
            "enable_task_events": False,
        }
        second.release()
        third = Placement(config_of("learner.count=2", "workers.count=1"), deadline_s=20)
        options = [*third.learner_options(), third.server_options(0), third.worker_options(0)]
        pinged = [ray.remote(lambda: 1).options(**o).remote() for o in options]  # type: ignore[attr-defined]
        assert ray.get(pinged, timeout=30) == [1, 1, 1, 1]
        third.release()
