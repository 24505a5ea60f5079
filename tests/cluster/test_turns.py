"""Who works when on a shared GPU. The card, its engines and its learner are stand-ins that fail when both are on it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import cluster.driver
import cluster.turns
from cluster.config import default_config
from cluster.driver import Driver
from cluster.record.run_dir import RunDir
from cluster.runtime.waiting import StopFlag
from cluster.turns import Alternation, SideBySide
from protocol.errors import AdapterRejected, DeadlineExceeded

ALTERNATING = ["servers.sleep_while_learning=true", "learner.gpus=0.5", "servers.gpus=0.5", "deterministic=false"]


class Card:
    """Edge fake of a GPU that holds the engines or the learner, and notes what happens on it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.engines_awake = False
        self.learner_present = True
        self.wake_error: Exception | None = None
        self.reload_error: Exception | None = None

    def enter(self, who: str) -> None:
        others = self.learner_present if who == "engines" else self.engines_awake
        assert not others, f"the card is full: {who} came while the others were on it"

    def ask_engines(self, event: str) -> None:
        assert self.engines_awake, f"engines were asked in their sleep: {event}"
        self.events.append(event)

    def ask_learner(self, event: str) -> None:
        assert self.learner_present and not self.engines_awake, f"the learner has no turn: {event}"
        self.events.append(event)


class Servers:
    """Stand-in for `ServerPool`."""

    restarts = 0

    def __init__(self, card: Card) -> None:
        self._card = card

    def sleep(self) -> None:
        self._card.engines_awake = False
        self._card.events.append("sleep")

    def wake(self) -> None:
        self._card.events.append("wake")
        if self._card.wake_error is not None:
            raise self._card.wake_error
        self._card.enter("engines")
        self._card.engines_awake = True

    def publish(self, manifest: Any, package: Any) -> list[Any]:
        self._card.ask_engines("publish")
        return [SimpleNamespace(max_abs_error=0.0, base_gap=0.0)]

    def retire_before(self, version: int) -> None:
        self._card.ask_engines("retire")

    def idle_shares(self) -> dict[str, float]:
        return {}

    def supervise(self) -> None: ...


class Workers:
    """Stand-in for `WorkerPool`."""

    lost_rollouts = recycled = 0

    def __init__(self, card: Card) -> None:
        self._card = card

    def collect(self, *_: Any) -> Any:
        self._card.ask_engines("sample")
        return SimpleNamespace(batches=[], reports=[], wall_s=1.0, states=[])

    def run_episodes(self, *_: Any, **__: Any) -> list[Any]:
        self._card.ask_engines("evaluate")
        return []

    def load_states(self, *_: Any) -> None: ...


class LearnerStandIn:
    """Stand-in for the Ray actor of `LearnerActor`; a call's "reference" is its result."""

    def __init__(self, card: Card) -> None:
        self._card = card
        self._exported = False
        self._version = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self, f"_{name}")
        return SimpleNamespace(remote=call, options=lambda **_: SimpleNamespace(remote=call))

    def _offload(self) -> None:
        self._card.learner_present = False
        self._card.events.append("offload")

    def _reload(self) -> None:
        if self._card.reload_error is not None:
            raise self._card.reload_error
        self._card.enter("learner")
        self._card.learner_present = True
        self._card.events.append("reload")

    def _update(self, *_: Any) -> dict[str, float]:
        self._card.ask_learner("update")
        self._exported, self._version = False, self._version + 1
        return {}

    def _package(self, *_: Any) -> tuple[Any, None]:
        self._card.ask_learner("export")
        self._exported = True
        return SimpleNamespace(policy_version=self._version), None

    def _save(self, folder: str, *_: Any) -> None:
        assert self._exported or self._card.learner_present, "nothing to write: the canaries need the model"
        Path(folder).mkdir(parents=True)
        self._card.events.append("save")

    def _load(self, *_: Any) -> None:
        self._card.ask_learner("load")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    for module in (cluster.driver, cluster.turns):
        monkeypatch.setattr(module, "ask_learner", lambda value, *_, **__: value)
    metrics = {"rollout/env_steps": 1.0, "rollout/sampled_tokens": 1.0}
    monkeypatch.setattr(cluster.driver, "rollout_metrics", lambda *_: dict(metrics))
    return Card()


def driver_on(card: Card, folder: Path, overrides: list[str] = ALTERNATING) -> Driver:
    learner, servers, workers = LearnerStandIn(card), Servers(card), Workers(card)
    run: Any = RunDir.create(str(folder), "run")
    make: Any = Driver
    return make(default_config(overrides), run, learner, servers, workers, (), StopFlag())


BEGIN = ["export", "offload", "wake", "publish", "retire"]
UPDATE = ["sample", "sleep", "reload", "update", *BEGIN]


def test_each_update_is_one_turn_of_the_engines_and_one_of_the_learner(card, tmp_path):
    driver = driver_on(card, tmp_path)
    driver.publish()
    for _ in range(2):
        driver.iterate()
    assert card.events == [*BEGIN, *UPDATE, *UPDATE]


def test_saving_and_evaluating_between_updates_changes_no_turn(card, tmp_path):
    driver = driver_on(card, tmp_path)
    driver.publish()
    driver.save()
    driver.play([1, 2], 0.0)
    driver.iterate()
    driver.save()
    driver.play([1, 2], 0.0)
    driver.iterate()
    assert card.events == [*BEGIN, "save", "evaluate", *UPDATE, "save", "evaluate", *UPDATE]


def test_evaluating_before_anything_is_published_wakes_the_engines(card, tmp_path):
    driver = driver_on(card, tmp_path)
    driver.play([1], 0.0)
    driver.publish()
    assert card.events == ["offload", "wake", "evaluate", "sleep", "reload", *BEGIN]


def test_going_on_from_a_checkpoint_is_the_learners_turn(card, tmp_path):
    driver = driver_on(card, tmp_path)
    driver.publish()
    driver.save()
    driver.restore()
    driver.publish()
    assert card.events == [*BEGIN, "save", "sleep", "reload", "load", *BEGIN]


@pytest.mark.parametrize("failure", ["wake_error", "reload_error"])
def test_a_change_that_fails_halfway_can_still_be_saved_and_is_begun_again(failure, card, tmp_path):
    driver = driver_on(card, tmp_path)
    driver.publish()
    error = AdapterRejected("other weights") if failure == "wake_error" else DeadlineExceeded("the learner is late")
    setattr(card, failure, error)
    with pytest.raises(type(error)):
        driver.iterate()
    driver.save()
    setattr(card, failure, None)
    driver.publish()
    driver.iterate()
    assert card.events[-len(UPDATE) :] == UPDATE
    assert "save" in card.events


def test_the_cost_of_turns_is_told_for_each_update(card, tmp_path):
    driver = driver_on(card, tmp_path)
    driver.publish()
    assert driver.iterate()["time/turns_s"] >= 0.0


def test_without_the_key_nobody_moves(card, tmp_path):
    card.engines_awake = True
    alternation = vars(driver_on(card, tmp_path / "a"))["_turns"]
    driver = driver_on(card, tmp_path / "b", [])
    assert isinstance(alternation, Alternation) and isinstance(vars(driver)["_turns"], SideBySide)
    card.ask_learner = card.events.append  # both are on the card at once
    driver.publish()
    values = driver.iterate()
    assert card.events == ["export", "publish", "retire", "sample", "update", "export", "publish", "retire"]
    assert "time/turns_s" not in values
