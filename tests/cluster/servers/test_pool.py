from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from cluster.servers import pool as module
from cluster.servers.pool import ServerPool
from protocol.errors import ServerDied

UNSTARTED, STARTED = {"started": False}, {"started": True}
DIED = ServerDied("Server server-0 is ending: killed", "try again shortly")


class Resync:
    def remote(self, packages: list) -> str:
        return "resync"


class Handle:
    resync = Resync()


@pytest.fixture
def judged(monkeypatch):
    """A pool's counters after answers of one server, one after the other."""

    def judge(*answers: Any) -> ServerPool:
        pool = object.__new__(ServerPool)
        pool.restarts, pool._asleep = 0, False
        pool._repairs, pool._recovering, pool._live = {}, set(), {}
        for answer in answers:

            def get(*_: Any, answer: Any = answer) -> Any:
                if isinstance(answer, Exception):
                    raise answer
                return answer

            monkeypatch.setattr(module, "get", get)
            pool._repairs.pop(0, None)
            pool._judge(0, Handle(), None)  # type: ignore[arg-type]
        return pool

    return judge


def test_an_unstarted_server_is_brought_back_and_counted(judged):
    pool = judged(UNSTARTED)
    assert (pool.restarts, pool._recovering, pool._repairs) == (1, {0}, {0: "resync"})
    pool = judged(UNSTARTED, None)
    assert (pool.restarts, pool._recovering, pool._repairs) == (1, set(), {})


@pytest.mark.parametrize("death", [DIED, ActorUnavailableError("gone", b"0" * 16)])
def test_one_that_dies_again_while_it_comes_back_gets_another_chance_and_counts_again(judged, death):
    pool = judged(UNSTARTED, death)
    assert (pool._recovering, pool._repairs) == (set(), {})
    pool = judged(UNSTARTED, death, UNSTARTED, None, STARTED)
    assert (pool.restarts, pool._recovering, pool._repairs) == (2, set(), {})
