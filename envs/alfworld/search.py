"""What a player has looked into so far."""

from envs.alfworld.world import World


class Search:
    """Receptacles whose content the engine has told; an opened one stays known when it is closed again."""

    def __init__(self) -> None:
        self.searched: set[str] = set()

    def learn(self, command: str, world: World) -> None:
        """Note what the answer to an admissible command has shown; `world` is the state after it."""
        verb, _, rest = command.partition(" ")
        place = rest.removeprefix("to ") if verb == "go" else rest
        if verb in ("go", "open", "examine") and place in world.receptacles() and not world.closed(place):
            self.searched.add(place)
