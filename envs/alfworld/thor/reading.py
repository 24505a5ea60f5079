"""From what ALFWorld's THOR backend says to what the policy reads, and from its commands back; pure functions.

The policy reads and answers the wording of the text games as alfworld 0.4 writes them ("move mug 1 to shelf 2", "You
arrive at shelf 2."), so that one prompt, one expert and one adapter fit both modes. Of THOR's list only such commands
remain as can do something, as in the text games, which never list another.
"""

import re
from collections.abc import Iterable

import numpy as np

from envs.alfworld.thor.state import FRAME_SHAPE, SimulatorError, SimulatorState

_NAME = r"[a-z-]+ \d+"
_PUT = re.compile(rf"put ({_NAME}) in/on ({_NAME})")
_MOVE = re.compile(rf"move ({_NAME}) to ({_NAME})")
_DID_PUT = re.compile(rf"You put the ({_NAME}) in/on the ({_NAME})\.")
_ARRIVED = re.compile(r"You arrive at loc \d+\.")
_TREAT = re.compile(rf"(?:heat|cool|clean) .* with ({_NAME})")


def read_state(
    results: tuple[str, bool, list[str], bool | np.bool_, float, list[str]],
    frame: np.ndarray,
    here: str,
    closed: bool | None,
    names: Iterable[str],
) -> SimulatorState:
    """The state behind the package's answer.

    Args:
        results: feedback, done, listed commands, won, goal-condition rate, expert plan. What the package calls done
            is not used: its step limit is not ours.
        frame: last picture, uint8 [300, 300, 3], BGR.
        here: name of the receptacle that the agent faces; "nothing" before the first.
        closed: whether that one is shut; None where it has no door or nobody knows.
        names: all receptacles and things that have a name so far.

    Raises:
        SimulatorError: the picture has another size.
    """
    if frame.shape != FRAME_SHAPE:
        raise SimulatorError(f"THOR draws {list(frame.shape)} instead of {list(FRAME_SHAPE)}; is the display larger?")
    feedback, _, listed, won, fraction, _ = results
    return SimulatorState(
        text=read_text(feedback, here),
        admissible=read_commands(listed, here, closed, names),
        won=bool(won),
        fraction=float(fraction),
        frame=np.ascontiguousarray(frame[..., ::-1]),
    )


def read_text(feedback: str, here: str) -> str:
    """The feedback in the wording of the text games; THOR numbers the place where they name the receptacle."""
    return _DID_PUT.sub(r"You move the \1 to the \2.", _ARRIVED.sub(f"You arrive at {here}.", feedback)).strip()


def read_commands(listed: Iterable[str], here: str, closed: bool | None, names: Iterable[str]) -> tuple[str, ...]:
    """The listed commands in the wording of the text games, sorted, each once, those left out that must fail.

    Arguments are those of `read_state`.
    """
    # The list is read off sentences by a rule that deletes every "a ", in "sofa 1" too; the rule is undone here.
    garbled = {name.replace("a ", ""): name for name in names if "a " in name}
    commands = set()
    for command in listed:
        for wrong, right in garbled.items():
            command = re.sub(rf"\b{re.escape(wrong)}\b", right, command)
        commands.add(_PUT.sub(r"move \1 to \2", command))
    return tuple(sorted(command for command in commands if not _must_fail(command, here, closed)))


def thor_commands(command: str, closed: bool | None) -> list[str]:
    """What to tell THOR for one command of the policy.

    alfworld 0.4.2 lists "move ... to ..." and itself only reads "put ... in/on ...". And it begins to heat or cool by
    opening the door; where that stands open already it says that nothing happens, although all the rest does.
    """
    treat = _TREAT.fullmatch(command)
    shut_first = [f"close {treat[1]}"] if treat and closed is False else []
    return [*shut_first, _MOVE.sub(r"put \1 in/on \2", command)]


def _must_fail(command: str, here: str, closed: bool | None) -> bool:
    treat = _TREAT.fullmatch(command)
    if command in ("help", f"go to {here}") or "nothing" in command.split() or (treat and treat[1] != here):
        return True
    if closed is None:
        return False
    reaches_in = command.startswith(("take ", "move "))
    return (reaches_in or command == f"close {here}") if closed else command == f"open {here}"
