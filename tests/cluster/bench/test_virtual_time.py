import asyncio
import time

import pytest

from cluster.bench.virtual_time import VirtualLoop, run_virtually


def test_waiting_takes_no_time_and_happens_in_order():
    seen = []

    async def wait(seconds):
        await asyncio.sleep(seconds)
        seen.append((seconds, asyncio.get_running_loop().time()))

    async def main():
        await asyncio.gather(*(wait(seconds) for seconds in (3600.0, 0.5, 7200.0)))
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert run_virtually(main()) == pytest.approx(7200, abs=1e-3)
    assert time.monotonic() - began < 60
    assert [seconds for seconds, _ in seen] == [0.5, 3600.0, 7200.0]
    assert all(at == pytest.approx(seconds, abs=1e-3) for seconds, at in seen)


def test_a_wait_for_nothing_is_an_error_and_not_for_ever():
    async def main():
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="nothing will ever happen"):
        run_virtually(main())


def test_work_keeps_the_loop_from_what_is_due_meanwhile():
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        due = asyncio.create_task(asyncio.sleep(1.0))
        await asyncio.sleep(0)
        loop.work(3.0)
        worked_s = loop.time()
        await due
        return [worked_s, loop.time()]

    assert run_virtually(main()) == [3.0, 3.0]
