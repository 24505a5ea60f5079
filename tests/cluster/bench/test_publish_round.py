"""Where the time of a publish went, and what a crew does to its servers; without Ray."""

import itertools
from dataclasses import fields
from types import SimpleNamespace

import pytest

from cluster.bench import publish_round
from cluster.bench.publish_actors import Exported, Word
from cluster.bench.publish_round import Crew, Parts, account
from cluster.bench.publish_stream import Span
from protocol.adapter import Acknowledgement, AdapterManifest, PublishTimes


def exported(began_s: float = 10.0, ended_s: float = 12.0) -> Exported:
    return Exported(AdapterManifest(0, bytes(32), 8, 16.0, (), 1000), Span(began_s, ended_s))


def word(began_s: float, ended_s: float, *times: float) -> Word:
    times = times or (0.1, 0.2, 0.3, 0.4)
    return Word(Acknowledgement(0, bytes(32), "s", 0.0, 1.0, 1.0, PublishTimes(*times)), Span(began_s, ended_s))


def test_the_parts_are_those_of_the_last_server_and_add_up():
    words = [word(12.5, 14.0), word(13.0, 15.0, 0.5, 0.25, 0.125, 0.0625), word(12.0, 14.5)]
    found = account(Span(9.5, 15.25), exported(), words)
    assert found.parts == Parts(2.0, 1.0, 0.5, 0.25, 0.125, 0.0625, rest=5.75 - 3.9375)
    assert found.parts.total == pytest.approx(5.75)
    assert (found.weights_bytes, found.exporting, found.serving) == (1000, Span(10.0, 12.0), Span(13.0, 15.0))
    assert [field.name for field in fields(Parts)][-1] == "rest"


class FakeActor:
    """Notes calls of Ray's form; a call returns what `answer` makes of it."""

    def __init__(self, calls: list, name: str):
        self._calls, self._name = calls, name

    def __getattr__(self, method: str):
        def remote(*arguments):
            self._calls.append((self._name, method, *arguments))
            if method == "export":
                return exported(), f"package {arguments[0]}"
            return f"tiny {arguments[0]}" if method == "tiny" else word(12.5, 14.0)

        call = SimpleNamespace(remote=remote)
        call.options = lambda **_: call
        return call


@pytest.fixture
def calls(monkeypatch) -> list:
    monkeypatch.setattr(publish_round, "get", lambda ref, *_: ref)
    monkeypatch.setattr(publish_round, "wait_for", lambda refs, *_: list(refs))
    return []


def crew(calls: list, servers: int = 2) -> Crew:
    return Crew(FakeActor(calls, "learner"), [FakeActor(calls, f"s{i}") for i in range(servers)], itertools.count(7))


def test_a_publish_steps_exports_and_reaches_every_server(calls):
    crew(calls).publish()
    assert calls == [
        ("learner", "step", 7),
        ("learner", "export", 7),
        ("s0", "publish", "package 7"),
        ("s1", "publish", "package 7"),
    ]


def test_older_versions_are_retired_and_the_newest_stays(calls):
    one = crew(calls)
    one.publish()
    one.retire_older()
    assert not [call for call in calls if call[1] == "retire"]
    one.publish()
    one.retire_older()
    one.retire_older()
    assert [call for call in calls if call[1] == "retire"] == [("s0", "retire", 7), ("s1", "retire", 7)]


def test_a_large_adapter_makes_way_for_a_tiny_one(calls):
    one = crew(calls, servers=1)
    one.publish()
    one.vacate()
    assert calls[-3:] == [("learner", "tiny", 8), ("s0", "publish", "tiny 8"), ("s0", "retire", 7)]
