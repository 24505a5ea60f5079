"""Evaluation of the policy that a stage's driver holds: the fixed panel, greedy and sampled."""

from __future__ import annotations

from cluster.driver import Driver
from cluster.evaluation import Panel, evaluate
from cluster.record.journal import Journal
from cluster.session import Session
from cluster.stages.plan import PlannedStage


def evaluate_policy(session: Session, stage: PlannedStage, driver: Driver, journal: Journal, when: str) -> None:
    """Play the panel if the stage is to be evaluated, and note the result.

    Args:
        session: What the user sees.
        stage: Whose environment is played, with the changes of `evaluation.env`.
        driver: Of this stage; its current policy plays.
        journal: Where results go.
        when: `before` or `after`, as the result is called.
    """
    config, wanted = stage.config, stage.config.evaluation
    if wanted is None:
        return
    panel = Panel(config.evaluated_env, wanted.seed, wanted.episodes)

    what = "RL" if stage.settings.kind == "rl" and not stage.number else stage.name
    with session.progress.phase(
        f"evaluate {when} {what} ({wanted.episodes} episodes greedy, {wanted.episodes} sampled)"
    ):
        for mode, temperature in (("greedy", 0.0), ("sampled", config.rollout.temperature)):
            journal.evaluated(stage, when, mode, evaluate(driver.play, panel, driver.policy_version, temperature))
