import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from envs.alfworld.game_files import GameFile
from envs.alfworld.goal import Goal
from envs.alfworld.thor.state import FRAME_SHAPE, SimulatorState
from envs.alfworld.thor.wire import pack_game, pack_state, receive, send, unpack_game, unpack_state


@pytest.fixture
def links():
    near, far = socket.socketpair()
    yield near, far
    near.close()
    far.close()


def test_messages_arrive_one_by_one(links):
    send(links[0], {"command": "go to desk 1"})
    send(links[0], {"n": [1, 2]}, b"\x00\xff")
    assert receive(links[1], 1) == ({"command": "go to desk 1"}, b"")
    assert receive(links[1], 1) == ({"n": [1, 2]}, b"\x00\xff")


def test_a_state_larger_than_the_socket_s_buffer_arrives_whole(links):
    frame = np.random.default_rng(0).integers(0, 256, FRAME_SHAPE, np.uint8)
    state = SimulatorState("Ünïcode\n", ("look", "go to desk 1"), True, 1 / 3, frame=frame[:, ::-1])
    writer = threading.Thread(target=lambda: send(links[0], *pack_state(state)))
    writer.start()
    arrived = unpack_state(*receive(links[1], 5))
    writer.join(5)
    assert (arrived.text, arrived.admissible) == (state.text, state.admissible)
    assert (arrived.won, arrived.fraction) == (True, 1 / 3)
    assert np.array_equal(arrived.frame, frame[:, ::-1]) and arrived.frame.dtype == np.uint8


def test_a_payload_of_another_size_is_refused():
    with pytest.raises(ValueError, match="reshape"):
        unpack_state({}, b"123")


def test_a_game_survives_the_way():
    game = GameFile("a/b", Path("/data/a/b/game.tw-pddl"), Goal("pick_and_place_simple", "mug", "desk", ""))
    assert unpack_game(pack_game(game)) == game


def test_silence_and_half_messages_time_out(links):
    with pytest.raises(TimeoutError):
        receive(links[1], 0.02)
    links[0].sendall(b"\x00\x00\x00\x09")
    with pytest.raises(TimeoutError):
        receive(links[1], 0.02)


def test_dripping_bytes_do_not_stretch_the_deadline(links):
    stop = threading.Event()

    def drip():
        links[0].sendall(b"\x00\x00\x10\x00\x00\x00\x00\x00")
        while not stop.wait(0.01):
            links[0].sendall(b"x")

    writer = threading.Thread(target=drip)
    writer.start()
    try:
        with pytest.raises(TimeoutError):
            receive(links[1], 0.1)
    finally:
        stop.set()
        writer.join(5)


@pytest.mark.parametrize("sent", [b"", b"\x00\x00\x00\x09\x00\x00\x00\x00half"])
def test_a_closed_link_is_told_from_silence(links, sent):
    links[0].sendall(sent)
    links[0].close()
    with pytest.raises(EOFError):
        receive(links[1], None)
