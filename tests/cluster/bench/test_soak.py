"""What a soak reports of samples and updates."""

import pytest

from cluster.bench.loop_runs import RECIPE
from cluster.bench.result import BenchResult
from cluster.bench.soak import ASYNCHRONOUS, ORDER, PACE, QUICK, Plan, report
from cluster.bench.soak_course import RunTooShort
from cluster.bench.soak_progress import Update
from cluster.bench.soak_sampler import Sample
from cluster.bench.tables import markdown, sections
from cluster.config import load_config
from tests.cluster.bench.findings import MACHINE

CONFIG = load_config(RECIPE, list(ASYNCHRONOUS))


def updates(length_s=600, slower=1.0):
    idle = {"engines": 0.1, "workers": 0.2, "learner": 0.5}
    return [Update(t, 2 * slower if t > 540 else 2, 512, 5120, idle, 1) for t in range(2, length_s + 1, 2)]


def samples(length_s=600, leak=0.0):
    return [
        Sample(
            float(t),
            {
                ("memory", "all processes (PSS)"): 3000.0,
                ("memory", "rollout worker 1"): 130.0,
                ("memory", "learner"): 500 + leak * t,
                ("memory", "driver"): 300.0,
                ("memory", "object store in use"): 5.0 + t % 2,
                ("open files and objects", "files, driver"): 50.0,
            }
            | ({("memory", "engine 1"): 900.0} if t < 300 else {}),
        )
        for t in range(0, length_s + 1, 5)
    ]


def test_courses_are_told_in_order_and_verdicts_follow_the_rule():
    found = report(samples(leak=0.1), updates(), Plan(600), CONFIG)
    memory = {course.case: course for course in found.courses if course.part == "memory"}
    assert list(memory) == ["driver", "learner", "rollout worker 1", "object store in use", "all processes (PSS)"]
    assert memory["learner"].grows and not any(c.grows for case, c in memory.items() if case != "learner")
    assert memory["learner"].slope == pytest.approx(0.1 / 256 * 1000, rel=1e-3)
    assert "engine 1: gone after 4.9 minutes, and not told." in found.notes
    assert "300 updates, 153,600 environment steps; processes started anew: 1 " in " ".join(found.notes)


def test_every_line_has_its_place():
    assert len(set(ORDER)) == len(ORDER)


def test_a_slow_down_shows():
    found = report(samples(), updates(slower=4.0), Plan(600), CONFIG)
    speeds = {row.case: row.values.median for row in found.rows if row.variant == "all"}
    assert len(speeds) == 10 and speeds["0 to 10 %"] == 256 and speeds["90 to 100 %"] == pytest.approx(64, rel=0.1)
    (ratio,) = found.ratios
    assert ratio.part == PACE and ratio.values.median == pytest.approx(0.25, rel=0.1)


def test_a_run_that_was_ended_says_so():
    whole = " ".join(report(samples(), updates(), Plan(600), CONFIG).notes)
    ended = " ".join(report(samples(), updates(), Plan(1800), CONFIG).notes)
    assert "ended by hand" not in whole and "10.0 minutes, ended by hand (of 30)" in ended


@pytest.mark.parametrize(("seen", "done"), [(0, 300), (121, 0), (1, 300)])
def test_nothing_can_be_said_of_nothing(seen, done):
    with pytest.raises(RunTooShort, match="let it run longer"):
        report(samples()[:seen], updates()[:done], Plan(600), CONFIG)


def test_both_plans_are_of_an_asynchronous_run():
    for plan in (Plan(1800), QUICK):
        config = load_config(RECIPE, list(plan.overrides))
        assert config.learner.max_staleness == 1 and not config.deterministic and config.evaluation is None
    assert CONFIG.servers.kind == "vllm", "quick runs alone do without"


def test_courses_stand_in_tables_and_survive_json():
    found = report(samples(leak=0.1), updates(), Plan(600), CONFIG)
    result = BenchResult(
        name="soak",
        about="About it",
        command="croupier bench soak",
        date="2024-01-02T03:04:05+00:00",
        quick=False,
        wall_s=700.0,
        machine=MACHINE,
        rows=tuple(found.rows),
        ratios=tuple(found.ratios),
        courses=tuple(found.courses),
        references=(),
        notes=tuple(found.notes),
    )
    assert BenchResult.model_validate(result.to_json()) == result
    assert [section.title for section in sections(result)][:2] == ["memory (MB)", "open files and objects (number)"]
    lines = markdown(result).splitlines()
    assert "| memory (MB) | at 10 % | at half | at the end | peak | per 1,000 steps | verdict |" in lines
    assert "| learner | 504 | 528 | 558 | 560 | +0.391 ± 0.0000 | grows |" in lines


def test_a_result_of_before_has_no_courses():
    assert BenchResult.model_fields["courses"].default == ()
