"""Three daemons, two of which know the hub alone: they find each other through it, and go on when it is killed."""

from __future__ import annotations

from processes import MakeMesh, degraded, texts, wait_holds

from meshnode.core.views import PeerView
from simulations.mesh import Node, wait_for


def peer_at(node: Node, noc: str) -> PeerView | None:
    with node.client() as client:
        return next((peer for peer in client.peers() if peer.noc == noc), None)


def is_connected(node: Node, noc: str) -> bool:
    peer = peer_at(node, noc)
    return peer is not None and peer.state == "connected" and peer.prekey_known


def test_two_nodes_that_know_the_hub_alone_are_linked_by_it_and_a_write_arrives_after_it_was_killed(
    make_mesh: MakeMesh,
) -> None:
    mesh = make_mesh("BE", "NL", "XX")  # BE is the relay
    hub, nl, xx = mesh["BE"], mesh["NL"], mesh["XX"]
    mesh.configure(hub, [])
    for node in (nl, xx):
        mesh.configure(node, [hub])
        text = node.config.read_text("utf-8")
        address = f'address = "{node.address}"\n'
        node.config.write_text(text.replace(address, f'{address}advertise = ["{node.address}"]\n', 1), "utf-8")
    for node in (hub, nl, xx):
        mesh.start(node)
    wait_for(lambda: is_connected(nl, "XX") and is_connected(xx, "NL"), 20.0, "links between the two that knew the hub")
    with nl.client() as client:
        incident = client.open_incident("other", {"title": "Hub lost"}, share_with=["XX"]).incident
    hub.kill()
    with nl.client() as client:
        client.append_log(incident, "written after the hub was killed")
    wait_holds([nl, xx], incident, {"written after the hub was killed"})
    assert texts(xx, incident) == ["written after the hub was killed"]
    assert is_connected(nl, "XX")
    wait_for(lambda: not is_connected(nl, "BE"), 20.0, "the hub is seen to be gone")
    assert degraded(nl) == []  # cut off from one, and not alone


def test_a_node_that_is_left_alone_or_pinned_wrongly_says_so(make_mesh: MakeMesh) -> None:
    mesh = make_mesh("BE", "NL")
    be, nl = mesh["BE"], mesh["NL"]
    mesh.configure(be, [])
    nl.config.write_text(nl.config.read_text("utf-8").replace('noc = "BE"', 'noc = "EU"'), "utf-8")
    mesh.start(nl)
    wait_for(lambda: degraded(nl) == ["alone"], 30.0, "nobody is there, and it is shown")
    unreached = peer_at(nl, "EU")
    assert unreached is not None
    assert (unreached.device, unreached.addresses, unreached.last_dial_error) == ("", [be.address], "connect-timeout")
    mesh.start(be)
    wait_for(lambda: "not-as-configured" in degraded(nl), 20.0, "another answers there, and it is shown")
    shown = peer_at(nl, "BE")
    assert shown is not None
    assert shown.last_refusal == "not-as-configured"

    def told() -> bool:
        seen = peer_at(be, "NL")
        return seen is not None and seen.last_refusal == "peer-not-as-configured"

    wait_for(told, 20.0, "the refused end shows it too")
