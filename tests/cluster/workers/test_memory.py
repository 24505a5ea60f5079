"""The memory of one process, and the decision to recycle; no Ray."""

from __future__ import annotations

import mmap

import pytest

from cluster.config import WorkersConfig, default_config
from cluster.workers.memory import MB, MemoryCap, own_memory_bytes
from protocol.errors import ConfigError


def test_memory_of_its_own_counts_and_shared_memory_does_not():
    size = 64 * MB
    before = own_memory_bytes()
    private = b"\1" * size
    with_private = own_memory_bytes()
    shared = mmap.mmap(-1, size)
    shared.write(b"\1" * size)  # the pages that another process would see as well
    with_shared = own_memory_bytes()
    shared.close()
    assert len(private) == size
    assert with_private - before == pytest.approx(size, rel=0.1)
    assert with_shared - with_private == pytest.approx(0, abs=0.1 * size)


def test_workers_above_the_cap_are_named():
    cap = MemoryCap(100)
    assert cap.outgrown({0: 99 * MB, 1: 101 * MB, 2: 100 * MB}) == {1}


def test_without_a_cap_nobody_is():
    cap = MemoryCap(None)
    cap.check_fresh(0, 10**12)
    assert cap.outgrown({0: 10**12}) == set()


def test_a_cap_below_a_fresh_worker_is_refused_with_its_size():
    MemoryCap(300).check_fresh(1, 300 * MB)
    with pytest.raises(ConfigError, match=r"max_memory_mb is 300, but worker-1 takes 412 MB.*Cure: raise"):
        MemoryCap(300).check_fresh(1, 412 * MB)


def test_outgrowing_the_cap_in_every_rollout_is_said_once(caplog):
    cap = MemoryCap(100)
    for used in (150, 50, 150):
        cap.outgrown({0: 50 * MB, 1: used * MB})
    assert caplog.text == ""
    for _ in range(3):
        assert cap.outgrown({0: 50 * MB, 1: 151 * MB}) == {1}
    (record,) = caplog.records
    assert "worker-1" in record.getMessage() and "took 151 MB" in record.getMessage()
    assert "workers.max_memory_mb is 100. Raise that" in record.getMessage()


def test_the_key_takes_a_limit_or_null():
    assert default_config(["workers.max_memory_mb=2048"]).workers.max_memory_mb == 2048
    assert default_config(["workers.max_memory_mb=null"]).workers.max_memory_mb is None
    assert WorkersConfig().max_memory_mb is not None
    with pytest.raises(ConfigError, match="workers.max_memory_mb.*greater than or equal to 1.*got 0"):
        default_config(["workers.max_memory_mb=0"])
