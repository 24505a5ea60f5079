"""One Ray for all benchmarks that need it."""

from contextlib import contextmanager

from cluster.bench import local_ray as module
from cluster.bench.local_ray import local_ray
from cluster.record.progress import RunProgress


def test_no_cluster_is_joined_and_ray_ends_with_the_block(monkeypatch):
    events = []

    @contextmanager
    def session(config, logical_cpus):
        events.append((config.address, logical_cpus))
        yield True
        events.append("ended")

    monkeypatch.setattr(module, "ray_session", session)
    with local_ray(RunProgress()):
        events.append("used")
    assert events == [("local", 3), "used", "ended"]
