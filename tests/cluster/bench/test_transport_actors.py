"""Both ends, called in this process."""

import pytest

from cluster.bench import transport_actors
from cluster.bench.transport_actors import Receiver, Sender
from cluster.bench.transport_rows import CARDS, FORMS, FRAMES, Case


@pytest.fixture
def sender(monkeypatch):
    monkeypatch.setattr(transport_actors.ray, "put", lambda rows: rows)
    monkeypatch.setattr(transport_actors, "wait_for", lambda references, *_: references)
    sender = Sender()
    nbytes, frame_bytes = sender.prepare(Case(CARDS, 16))
    assert nbytes > frame_bytes > 0
    return sender


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_every_form_arrive(sender, form):
    put_s, references = sender.put(form)
    began_s, returned = sender.hand_over(form)
    for rows in (references, [returned]):
        arrival = Receiver().take(rows)
        assert arrival.rows == 16 and arrival.copy_s < 1e-3 and arrival.ended_s > began_s
    assert put_s > 0


def test_frames_arrive_as_a_table_and_are_copied_when_told_to(sender):
    _, references = sender.put(FRAMES)
    (batch,) = references
    arrival = Receiver().take(references, copy_frames=True)
    assert arrival.rows == batch.num_rows and arrival.copy_s > 0


def test_copying_and_encoding_take_time(sender):
    assert sender.copy_s(1 << 20) > 0 and sender.encode_s() > 0
