from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.admission import Admission
from learner.backbone import Backbone
from protocol.trajectory import NO_DIGEST
from protocol.validation import AdmissionRules
from tests.learner.world import COMPUTE

NEWEST = 9
FOREIGN = bytes(31) + b"\x01"


@pytest.fixture(scope="module")
def parts(world_of):
    world = world_of("qwen2_5_vl")
    backbone = Backbone.load(world.folder, COMPUTE)
    published = dict.fromkeys(range(NEWEST + 1), NO_DIGEST)
    return world, backbone.images, AdmissionRules(backbone.vocab_size, backbone.image_token_id, published)


@pytest.fixture
def make(parts):
    world, images, _ = parts

    def build(max_staleness=0, kept_rejections=10):
        return Admission(images, world.banned, max_staleness=max_staleness, kept_rejections=kept_rejections)

    return build


@pytest.fixture
def batch_of(parts):
    """Batch of one-step trajectories from (name, version) pairs; names that start with "bad" are invalid."""
    world, _, _ = parts

    def build(*pairs):
        digest = {name: FOREIGN if name.startswith("bad") else NO_DIGEST for name, _ in pairs}
        return world.batch(
            [
                world.step(trajectory=name, policy_version=version, adapter_digest=digest[name])
                for name, version in pairs
            ]
        )

    return build


def counts(admission):
    assert admission.ledger.balanced
    ledger = admission.ledger
    return (ledger.received, ledger.trained, ledger.stale, ledger.invalid, ledger.duplicate, ledger.waiting)


def names(batches):
    return [name for batch in batches for name in batch.steps.column("trajectory_id").to_pylist()]


def test_each_fate_is_counted_once(make, batch_of, parts):
    admission, rules = make(max_staleness=1), parts[2]
    rejections = admission.receive(batch_of(("a", 3), ("old", 1), ("bad", 3), ("b", 2)), rules, 3)
    assert counts(admission) == (4, 0, 1, 1, 0, 2)
    assert [r.trajectory_id for r in rejections] == ["bad"]
    admission.receive(batch_of(("b", 2)), rules, 3)
    assert counts(admission) == (5, 0, 1, 1, 1, 2)
    assert names(admission.take(3)) == ["a", "b"]
    assert counts(admission) == (5, 0, 1, 1, 1, 2)
    assert admission.mark_trained() == 2
    assert counts(admission) == (5, 2, 1, 1, 1, 0)
    admission.receive(batch_of(("a", 3)), rules, 3)
    assert counts(admission) == (6, 2, 1, 1, 2, 0)


def test_waiting_trajectories_may_become_stale(make, batch_of, parts):
    admission = make()
    admission.receive(batch_of(("a", 0), ("b", 0)), parts[2], 0)
    admission.receive(batch_of(("c", 1)), parts[2], 1)
    assert names(admission.take(1)) == ["c"]
    assert counts(admission) == (3, 0, 2, 0, 0, 1)


def test_a_trajectory_is_as_stale_as_its_oldest_row(make, parts):
    world, _, rules = parts
    admission = make(max_staleness=1)
    steps = world.trajectory("a", [(1, 4), (2, 4)], [0.0, 1.0], policy_version=5)
    steps[0] = type(steps[0])(**{n: getattr(steps[0], n) for n in steps[0].__slots__} | {"policy_version": 3})
    admission.receive(world.batch(steps), rules, 5)
    assert counts(admission) == (1, 0, 1, 0, 0, 0)


def test_what_arrives_during_an_update_is_not_counted_as_trained(make, batch_of, parts):
    admission = make()
    admission.receive(batch_of(("a", 0)), parts[2], 0)
    admission.take(0)
    admission.receive(batch_of(("late", 0)), parts[2], 0)
    assert admission.mark_trained() == 1
    assert counts(admission) == (2, 1, 0, 0, 0, 1)
    assert names(admission.take(0)) == ["late"]


def test_partly_accepted_batches_keep_only_what_they_need(make, batch_of, parts):
    admission = make()
    admission.receive(batch_of(("a", 1), ("old", 0)), parts[2], 1)
    (batch,) = admission.take(1)
    assert batch.steps.num_rows == 1
    assert batch.frames.num_rows == 1


def test_rejections_are_kept_up_to_a_limit(make, batch_of, parts):
    admission = make(kept_rejections=2)
    admission.receive(batch_of(*((f"bad{i}", 0) for i in range(5))), parts[2], 0)
    assert [r.trajectory_id for r in admission.rejections] == ["bad3", "bad4"]
    assert admission.ledger.invalid == 5


def test_state_leaves_waiting_ones_out_and_remembers_trained_ones(make, batch_of, parts):
    admission = make(max_staleness=2)
    admission.receive(batch_of(("a", 0)), parts[2], 0)
    admission.take(0)
    admission.mark_trained()
    admission.receive(batch_of(("b", 0), ("bad", 0)), parts[2], 0)
    resumed = make(max_staleness=2)
    resumed.load_state(admission.state())
    assert counts(resumed) == (2, 1, 0, 1, 0, 0)
    resumed.receive(batch_of(("a", 0), ("b", 0)), parts[2], 1)
    assert counts(resumed) == (4, 1, 0, 1, 1, 1)


def test_ids_too_old_to_matter_are_forgotten(make, batch_of, parts):
    admission = make(max_staleness=1)
    admission.receive(batch_of(("a", 0), ("b", 1)), parts[2], 1)
    admission.take(2)
    assert set(admission.state()["seen"]) | {"b"} == {"b"}
    admission.receive(batch_of(("a", 0)), parts[2], 2)
    assert counts(admission) == (3, 0, 2, 0, 0, 1)


PAIRS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "d", "bad"]), st.integers(0, NEWEST)),
    max_size=4,
    unique_by=lambda p: p[0],
)
EVENTS = st.lists(st.one_of(PAIRS, st.sampled_from(["take", "train", "next version"])), max_size=12)


@settings(max_examples=40, deadline=None)
@given(events=EVENTS, max_staleness=st.integers(0, 2))
def test_the_ledger_balances_whatever_happens(parts, events, max_staleness):
    world, images, rules = parts
    admission = Admission(images, world.banned, max_staleness=max_staleness, kept_rejections=3)
    version, delivered, trained = 0, 0, Counter()
    handed_out: list[str] = []
    for event in events:
        if event == "take":
            handed_out = names(admission.take(version))
        elif event == "train":
            assert admission.mark_trained() == len(handed_out)
            trained.update(handed_out)
            handed_out = []
        elif event == "next version":
            version = min(version + 1, NEWEST)
        elif event:
            steps = [
                world.step(
                    trajectory=name,
                    policy_version=v,
                    adapter_digest=FOREIGN if name == "bad" else NO_DIGEST,
                )
                for name, v in event
            ]
            admission.receive(world.batch(steps), rules, version)
            delivered += len(event)
        counts(admission)
        assert admission.ledger.received == delivered
        assert admission.ledger.trained == trained.total()
    assert "bad" not in trained
