"""What is kept for others: the stories are in test_retention_mesh.py; here what only a fault can bring about."""

from __future__ import annotations

from world import World

from meshnode.core.custody import LOOK_INTERVAL_S, RelaySettings

TTL_S = 3_600.0


def test_an_incident_that_became_readable_unnoticed_is_not_dropped() -> None:
    """As when a fault of the disk cut off the step that took the invitation."""
    world = World(1)
    hub = world.add("EU", relay=RelaySettings(time_to_live_s=TTL_S))
    be = world.add("BE", relay=False, peers=("EU:1",))
    world.run(3.0)
    incident = world.open(be, share=("EU",))
    ((key_id, package),), _ = be.node.incidents.packages(incident)
    other = world.open(be)
    world.run(15.0)
    assert hub.node.incidents.is_member(incident)
    custody = hub.node.exchange._custody
    custody._retention.on_grew(incident, hub.store.incident_bytes(incident))  # as if it were still of others
    world.run(TTL_S + 2 * LOOK_INTERVAL_S)
    assert (hub.node.holdings.holds(incident), hub.node.holdings.holds(other)) == (True, False)
    assert hub.node.incidents.try_package(incident, key_id, package)
