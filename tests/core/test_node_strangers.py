"""Neighbours that are enrolled and no members: what they can make others store, say and do."""

from __future__ import annotations

import pytest
from hostile_mesh import Mesh

from meshnode.core import codec, wire
from meshnode.core.budget import BURST_BYTES, REPORT_COST_BYTES
from meshnode.core.events import Change, ChangeKind


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


# --- what is said to them -------------------------------------------------------------------------------------------


def test_answers_are_charged_to_who_asks(mesh: Mesh) -> None:
    """I7: some 60 bytes of question for 256 KiB of answer."""
    world, be, nl = mesh.world, mesh.be, mesh.nl
    for number in range(10):
        value = f"{number}" + "x" * 40_000
        world.change(be, mesh.incident, Change(ChangeKind.SET, field="x-large", value=value))
    world.run(5.0)
    log = max(be.node.holdings.logs(mesh.incident), key=lambda head: head.height)
    question = wire.encode(wire.Want(mesh.incident, log.log, 1, log.height))
    asked, before = 0, world.bytes_sent
    while "peer-too-fast" not in be.codes and asked < 5_000:
        world.say(nl, be, question)
        world.run(0.000_1)
        asked += 1
    assert asked < BURST_BYTES / 150_000
    world.run(0.1)
    assert world.bytes_sent - before < 1.1 * BURST_BYTES
    mesh.check_serving()


def test_messages_that_nobody_knows_are_charged_as_what_they_cost_to_write_down(mesh: Mesh) -> None:
    world, be, nl = mesh.world, mesh.be, mesh.nl
    spam = codec.encode([999])
    for _ in range(BURST_BYTES // REPORT_COST_BYTES // 2):
        world.say(nl, be, spam)
    world.run(0.1)
    assert "peer-too-fast" not in be.codes  # a newer peer sends some
    for _ in range(BURST_BYTES // REPORT_COST_BYTES):
        world.say(nl, be, spam)
    world.run(0.1)
    assert "peer-too-fast" in be.codes
    mesh.check_serving()
