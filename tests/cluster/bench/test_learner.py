"""The learner and its contender compute the same; structure and plausibility of the findings, never a time."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForImageTextToText

from cluster.bench import learner
from cluster.bench.learner import language_weights, measure
from cluster.bench.learner_cases import PPO_SETTINGS, Case, build_world, sampled_rows
from cluster.bench.learner_runs import OURS, PLAIN, Training, Update, distance, peak_mib, train, update
from cluster.bench.registry import BenchSettings
from cluster.record.progress import RunProgress

CASE = Case("EZPoints", "0.34M")
"""Its responses differ in length."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return build_world(CASE, 24, 0.3, tmp_path_factory.mktemp("models"))


def test_both_take_the_same_gradients_and_arrive_at_the_same_adapter(world):
    settings = PPO_SETTINGS.model_copy(update={"ppo": PPO_SETTINGS.ppo.model_copy(update={"minibatch_size": 12})})
    rows = sampled_rows(world, settings)
    ours, plain = (update(who, world, rows, settings) for who in (OURS, PLAIN))
    assert len({len(response) for response in rows.responses}) > 1
    assert len(ours.gradients) == len(plain.gradients) > 28
    assert all(g.abs().max() > 0 for g in ours.gradients[:28])
    assert distance(ours.gradients, plain.gradients) < 1e-4
    assert distance(ours.adapter, plain.adapter) < 1e-3
    assert ours.took_s > 0 and plain.took_s > 0


def test_both_lose_the_same_in_every_step_of_fine_tuning(world):
    ours, plain = (train(who, world, 4) for who in (OURS, PLAIN))
    assert ours.losses == pytest.approx(plain.losses, rel=1e-4)
    assert ours.losses[-1] < ours.losses[0]
    assert ours.step_s > 0 and plain.step_s > 0


def test_distance_is_relative():
    assert distance((torch.tensor([3.0, 0.0]),), (torch.tensor([0.0, 4.0]),)) == pytest.approx(1.25)


@pytest.fixture
def stubs(monkeypatch):
    """Contenders that take a second (ours) or two, without training anything."""
    took = {OURS: 1.0, PLAIN: 2.0}
    tensors = (torch.ones(2),)
    monkeypatch.setattr(learner, "update", lambda who, *_: Update(took[who], tensors, tensors))
    monkeypatch.setattr(learner, "train", lambda who, *_: Training(took[who], (1.0, 0.5)))
    monkeypatch.setattr(learner, "build_world", lambda *_: SimpleNamespace(tokens=640, rows=[None] * 64))
    monkeypatch.setattr(learner, "sampled_rows", lambda world, _: world.rows)

    class Process:
        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda self, *_: None  # noqa: E731

        def call(self, _deadline_s, function, who, *_):
            assert function is peak_mib
            return 100.0, 100.0 + 10 * took[who]

    monkeypatch.setattr(learner, "FreshProcess", Process)


def test_speeds_ratios_differences_and_memory_are_reported(stubs):
    findings = measure(BenchSettings(), RunProgress())
    rows = {(row.part, row.case, row.variant): row.values.median for row in findings.rows}
    ratios = {(one.part, one.case): one for one in findings.ratios}
    for case in learner.CASES:
        assert rows["PPO update", case.name, OURS] == 640 * 3
        assert rows["SFT step", case.name, PLAIN] == 320
        for part in ("PPO update", "SFT step"):
            assert ratios[part, case.name].values.median == 2
            assert ratios[part, case.name].met is False
        assert rows["relative difference", case.name, "gradient of the first PPO step"] == 0
    largest = learner.CASES[-1].name
    assert rows["memory", f"{largest} PPO update", "ours, peak"] == 110
    assert ratios["memory", f"{largest} SFT step"].values.median == 2
    assert any("oneDNN" in note or "torch's own library" in note for note in findings.notes)


def test_a_quick_run_measures_one_case_once(stubs):
    findings = measure(BenchSettings(quick=True), RunProgress())
    assert {row.case for row in findings.rows if row.part == "PPO update"} == {learner.CASES[0].name}
    assert all(len(one.values.samples) == 1 for one in findings.ratios)


def test_a_known_gpu_gets_its_utilisation(stubs, monkeypatch):
    """The GPU is pretended: its name alone is asked for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(learner, "build_world", lambda *_: SimpleNamespace(tokens=640, rows=[None] * 64, folder=None))
    monkeypatch.setattr(learner, "language_weights", lambda _: 989_000_000)
    rows = {(row.case, row.variant): row.values.median for row in measure(BenchSettings(), RunProgress()).rows}
    share = 100 * 4 * 989e6 * 640 * PPO_SETTINGS.ppo.epochs / 989e12  # of one second
    assert rows[learner.CASES[0].name, "ours, of the GPU's peak"] == pytest.approx(share)
    assert rows[learner.CASES[0].name, "plain, of the GPU's peak"] == pytest.approx(share / 2)


def test_text_weights_leave_out_the_vision_part(world):
    model = AutoModelForImageTextToText.from_pretrained(world.folder)
    text = sum(p.numel() for n, p in model.named_parameters() if "language_model" in n)
    assert language_weights(world.folder) == text < sum(p.numel() for p in model.parameters())


@pytest.mark.slow
def test_memory_of_a_process_grows_by_the_work(tmp_path):
    before, highest = peak_mib(OURS, CASE, 24, str(tmp_path))
    assert 0 < before < highest
