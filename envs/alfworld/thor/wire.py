"""Messages between an environment and its simulator's process: one JSON object and raw bytes, never pickles.

A message is two lengths of four bytes (big endian), the JSON text and the bytes, which hold a frame or nothing.
"""

import json
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from envs.alfworld.game_files import GameFile
from envs.alfworld.goal import Goal
from envs.alfworld.thor.state import FRAME_SHAPE, SimulatorState

_LENGTHS = struct.Struct(">II")


def send(link: socket.socket, message: Mapping[str, Any], payload: bytes = b"") -> None:
    """Send a message; it waits where the other side does not read, at most the link's own timeout.

    Raises:
        OSError: the other side is gone, or does not read.
    """
    text = json.dumps(message).encode()
    link.sendall(_LENGTHS.pack(len(text), len(payload)) + text + payload)


def receive(link: socket.socket, timeout_s: float | None) -> tuple[dict[str, Any], bytes]:
    """Wait for a whole message.

    Args:
        link: where from.
        timeout_s: for the whole of it; None waits for ever.

    Raises:
        TimeoutError: it did not come in time.
        EOFError: the other side is gone.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    lengths = _LENGTHS.unpack(_read(link, _LENGTHS.size, deadline))
    text, payload = (_read(link, length, deadline) for length in lengths)
    return json.loads(text), payload


def pack_state(state: SimulatorState) -> tuple[dict[str, Any], bytes]:
    """A state as message and payload."""
    message = {"text": state.text, "admissible": state.admissible, "won": state.won, "fraction": state.fraction}
    return message, np.ascontiguousarray(state.frame, dtype=np.uint8).tobytes()


def unpack_state(message: Mapping[str, Any], payload: bytes) -> SimulatorState:
    """The state in a message.

    Raises:
        ValueError: the payload is no frame.
    """
    frame = np.frombuffer(payload, dtype=np.uint8).reshape(FRAME_SHAPE)
    return SimulatorState(
        message["text"], tuple(message["admissible"]), message["won"], message["fraction"], frame=frame
    )


def pack_game(game: GameFile) -> dict[str, Any]:
    """A game as plain data."""
    return {"key": game.key, "path": str(game.path), "goal": asdict(game.goal)}


def unpack_game(data: Mapping[str, Any]) -> GameFile:
    """The game in plain data."""
    return GameFile(data["key"], Path(data["path"]), Goal(**data["goal"]))


def _read(link: socket.socket, length: int, deadline: float | None) -> bytes:
    data = bytearray(length)
    filled = 0
    while filled < length:
        if deadline is not None and (left := deadline - time.monotonic()) > 0:
            link.settimeout(left)
        elif deadline is not None:
            raise TimeoutError
        try:
            count = link.recv_into(memoryview(data)[filled:])
        except ConnectionError:
            count = 0
        if not count:
            raise EOFError
        filled += count
    return bytes(data)
