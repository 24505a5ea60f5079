"""A game for two words that a policy of the tiny model really plays: everything else is banned.

An episode has two steps. At each the policy writes two tokens, a thought and an action, "+" or "-" each; the action
"+" pays 1, "-" pays nothing. The picture belongs to the reset seed, so that episodes of one seed are a group.
"""

import numpy as np
import torch

from learner.batching import collate
from learner.rows import Rows, gather_rows
from protocol.trajectory import TokenRole
from tests.learner.world import STATES

ROLES = np.array([TokenRole.THOUGHT, TokenRole.ACTION], dtype=np.int8)


class Bandit:
    """The game, for the policies that `make_policy(world, banned_token_ids=bandit.banned)` makes."""

    def __init__(self, world) -> None:
        self._world = world
        self.plus, self.minus = (world.tokenizer.encode(sign, add_special_tokens=False)[0] for sign in "+-")
        self.banned = tuple(i for i in range(len(world.tokenizer)) if i not in (self.plus, self.minus))

    def play(self, policy, generator, *, groups=4, group_size=4, version=0, **changes) -> Rows:
        """Rows of groups * group_size whole episodes, sampled from the policy as it is."""
        seeds = np.repeat(np.arange(groups), 2 * group_size)
        tokens, log_probs = np.empty((len(seeds), 0), np.int32), np.empty((len(seeds), 0), np.float32)
        for _ in ROLES:
            rows = self._rows(seeds, np.append(tokens, np.full((len(seeds), 1), self.plus, np.int32), 1), None, 0, {})
            plus = torch.from_numpy(self._last_log_probs(policy, rows)).exp()
            drawn = torch.rand(len(seeds), generator=generator) < plus
            chosen = torch.where(drawn, self.plus, self.minus).numpy().astype(np.int32)
            tokens = np.append(tokens, chosen[:, None], 1)
            own = torch.where(drawn, plus, 1 - plus).log().numpy()
            log_probs = np.append(log_probs, own[:, None], 1)
        return self._rows(seeds, tokens, log_probs, version, changes)

    def _last_log_probs(self, policy, rows: Rows) -> np.ndarray:
        with torch.no_grad():
            batch = collate(rows, np.arange(len(rows)), policy.backbone.pad_id)
            return policy.log_probs(batch)[:, -1].cpu().numpy()

    def _rows(self, seeds, tokens, log_probs, version, changes) -> Rows:
        steps = []
        for row, seed in enumerate(seeds.tolist()):
            name, last = f"{version}-{row // 2}", row % 2 == 1
            written = tokens[row]
            steps.append(
                self._world.step(
                    row % 2,
                    name,
                    STATES[seed % len(STATES)],
                    reset_seed=seed,
                    policy_version=version,
                    response_token_ids=written,
                    behavior_log_probs=np.zeros(len(written), np.float32) if log_probs is None else log_probs[row],
                    token_roles=ROLES[: len(written)],
                    reward=float(len(written) == 2 and written[1] == self.plus),
                    **({} if last else self._world.open_end),
                    **changes,
                )
            )
        return gather_rows([self._world.batch(steps)])
