"""ALFWorld is measured in processes of its own, or skipped with the cure."""

import sys

import pytest

from cluster.bench import envs_alfworld
from cluster.bench import envs_alfworld_probe as probe
from cluster.bench.envs_alfworld import PARSED_ANEW, REMEMBERED, measure_alfworld
from cluster.bench.fresh_process import FreshProcess
from cluster.bench.registry import BenchSettings
from cluster.bench.result import Findings
from cluster.record.progress import RunProgress
from tests.cluster.bench import probes

DEADLINE_S = 100.0


def test_a_missing_extra_is_a_note_with_its_cure(monkeypatch):
    monkeypatch.setattr(envs_alfworld, "find_spec", lambda name: None)
    findings = Findings()
    measure_alfworld(findings, BenchSettings(), RunProgress())
    (note,) = findings.notes
    assert "skipped" in note and "pip install" in note
    assert not findings.rows


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_quick_soak_measures_everything(monkeypatch, tmp_path):
    pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")
    monkeypatch.setenv("CROUPIER_CACHE", str(tmp_path))
    arguments = list(sys.argv)
    findings = Findings()
    measure_alfworld(findings, BenchSettings(quick=True, soak=True), RunProgress())
    cases = {(row.case, row.variant) for row in findings.rows}
    for event in ("reset", "step", "engine start", "engine step"):
        assert {(f"three games {event}", REMEMBERED), (f"three games {event}", PARSED_ANEW)} <= cases
    for variant in ("imported", "one env", "further env"):
        assert ("three games resident memory", variant) in cases
    assert ("three games to the first observation", "new process") in cases
    assert ("three games scan of 3 games", "from the index") in cases
    assert ("household, resident memory", "after 2 games") in cases
    assert {("Text (three games)", "parse"), ("Schematic (three games)", "picture alone")} <= cases
    assert {ratio.case for ratio in findings.ratios} == {
        "three games reset",
        "three games step",
        "three games scan of 3 games",
    }
    assert sys.argv == arguments and "textworld" not in findings.notes[0]
    assert not list(tmp_path.rglob("index-*")), "no index of games that are gone"


@pytest.mark.slow
def test_the_forgetful_process_parses_anew_and_the_other_remembers():
    pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")
    with FreshProcess(probe.without_parse_cache) as forgetful, FreshProcess() as remembering:
        assert forgetful.call(DEADLINE_S, probes.parses_are_remembered) == (False, False)
        assert remembering.call(DEADLINE_S, probes.parses_are_remembered) == (True, True)
