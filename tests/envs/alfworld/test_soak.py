import subprocess
import sys

import pytest

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

from envs.alfworld.scene import Difficulty
from envs.alfworld.soak import soak

MIB = 1 << 20
SMALL = Difficulty((3, 4), (2, 2))

# Measured: from 30 to 150 games 0.3 MiB with forgetting; without it 3.6 MiB to 90 games.
MOST_GROWTH_BYTES = 2 * MIB
SINCE = 30


# In a process of its own: in this one, memory that earlier tests gave back would hide what grows.
CHILD = f"""
import sys
from envs.alfworld import engine
from envs.alfworld.soak import soak
if sys.argv[2:] == ["without"]:
    engine._forget_past_games = lambda: None
print(soak(int(sys.argv[1]), steps=3, every={SINCE}).growth_bytes(since={SINCE}))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "arguments, flat", [(["90"], True), (["90", "without"], False)], ids=["as it is", "without forgetting"]
)
def test_a_process_stays_flat_over_many_games(own_cache, arguments, flat):
    command = [sys.executable, "-c", CHILD, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert (int(done.stdout) < MOST_GROWTH_BYTES) is flat, f"{int(done.stdout) / MIB:.1f} MiB"
    assert list(own_cache.rglob("*.json")) == []  # nothing is left of the games


@pytest.mark.slow
def test_what_is_measured(own_cache):
    told = []
    seen = soak(5, steps=2, every=2, difficulty=SMALL, told=lambda *numbers: told.append(numbers))
    assert list(seen.rss_bytes) == [0, 2, 4, 5] and told == list(seen.rss_bytes.items())[1:]
    assert (seen.resets, seen.steps) == (5, 10) and seen.seconds > 0
    assert seen.growth_bytes(since=2) == seen.rss_bytes[5] - seen.rss_bytes[2]


TAKE_20_MIB = f"""
from envs.alfworld.soak import resident_bytes
before = resident_bytes()
taken = bytearray(b"1") * {20 * MIB}
print(resident_bytes() - before)
"""


def test_memory_that_is_taken_is_seen():
    done = subprocess.run([sys.executable, "-c", TAKE_20_MIB], capture_output=True, text=True, timeout=100)
    assert 19 * MIB < int(done.stdout) < 40 * MIB, done.stderr


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, -1, 1), (1, 1, 0)])
def test_senseless_numbers_are_refused(numbers):
    resets, steps, every = numbers
    with pytest.raises(ValueError, match=f"not {resets}, {every} and {steps}"):
        soak(resets, steps, every)
