"""What the transport benchmark reports, with ends that only pretend; the real ones run in the slow tests."""

from contextlib import nullcontext

import pytest

from cluster.bench import transport
from cluster.bench.registry import BenchSettings
from cluster.bench.transport import COLUMN, COPIED, MEMCPY, ROWS, STEPS, Journey, measure
from cluster.bench.transport_actors import Arrival
from cluster.bench.transport_rows import ARRAYS, CARDS, FORMS, FRAMES, OURS, PICTURES, PNG, ROOMS, Case
from cluster.record.progress import RunProgress

TOTAL_S = {OURS: 0.01, FRAMES: 0.008, PNG: 0.21, PICTURES: 0.15, ARRAYS: 0.02}


class FakeEnds:
    """A batch of 80 MB, of which the frames are 40 MB."""

    def __init__(self):
        self.sent: list[tuple[str, str]] = []
        self.case: Case | None = None

    def prepare(self, case: Case) -> tuple[int, int]:
        self.case = case
        return 80_000_000, 40_000_000

    def send(self, form: str, copy_frames: bool = False) -> Journey:
        assert self.case is not None
        self.sent.append((self.case.pictures, form))
        whole = TOTAL_S[form]
        return Journey(whole / 2, Arrival(whole / 4, whole / 4, 0.008 * copy_frames, rows=1, ended_s=0.0))

    def return_s(self, form: str) -> float:
        return 0.03

    def copy_s(self, nbytes: int) -> float:
        return nbytes / 1e10

    def encode_s(self) -> float:
        return 0.05


@pytest.fixture
def ends(monkeypatch) -> FakeEnds:
    ends = FakeEnds()
    monkeypatch.setattr(transport, "local_ray", lambda _: nullcontext())
    monkeypatch.setattr(transport, "_ends", lambda: nullcontext(ends))
    return ends


def test_speeds_ratios_and_goals(ends):
    findings = measure(BenchSettings(), RunProgress())
    rows = {(row.part, row.case, row.variant, row.unit): row.values for row in findings.rows}
    for pictures in (CARDS, ROOMS):
        name = Case(pictures, 512).name
        assert rows[ROWS, name, OURS, "rows/s"].median == 51_200
        assert rows[ROWS, name, OURS, "GB/s"].median == 8
        assert rows[ROWS, name, PNG, "rows/s"].median == pytest.approx(512 / 0.21, rel=1e-5)
        assert rows[STEPS, name, "put", "ms"].median == 5
        assert rows[STEPS, name, "return statement to rows in the learner", "ms"].median == 30
    column = f"{Case(ROOMS, 512).name}, 40 MB"
    assert rows[COLUMN, column, MEMCPY, "GB/s"].median == 10
    assert rows[COLUMN, column, OURS, "GB/s"].median == 5
    assert rows[COLUMN, column, COPIED, "GB/s"].median == 2.5
    assert {row.case for row in findings.rows if row.part == COLUMN} == {column}
    ratios = {(one.case, one.of): one for one in findings.ratios}
    assert ratios[column, f"{OURS} / {MEMCPY}"].values.median == pytest.approx(0.5)
    assert ratios[column, f"{OURS} / {MEMCPY}"].at_least == 0.5
    cards = Case(CARDS, 512).name
    assert ratios[cards, f"{OURS} / {PNG}"].values.median == pytest.approx(21) and ratios[cards, f"{OURS} / {PNG}"].met
    assert ratios[cards, f"{OURS} / {PICTURES}"].met is False
    assert ratios[cards, f"{OURS} / {ARRAYS}"].at_least is None


def test_forms_are_sent_in_turn(ends):
    measure(BenchSettings(quick=True), RunProgress())
    once = [OURS, *FORMS, FRAMES, FRAMES, *FORMS, FRAMES, FRAMES]
    assert ends.sent == [(pictures, form) for pictures in (CARDS, ROOMS) for form in once]
    assert ends.case == Case(ROOMS, 32)
