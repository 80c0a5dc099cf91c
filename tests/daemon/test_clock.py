"""A clock ten years off: the local service goes on, the status says why, and nothing is lost when it is right."""

from __future__ import annotations

import pytest
from processes import MakeMesh, altered, degraded, log_codes, refusal_of, refusals, texts, wait_holds

from simulations.mesh import MESHNODE, wait_for

TEN_YEARS_S = 10 * 365 * 24 * 3600


@pytest.mark.parametrize(
    ("offset_s", "code"),
    [(TEN_YEARS_S, "certificate-expired"), (-TEN_YEARS_S, "certificate-not-yet-valid")],
)
def test_a_node_whose_clock_is_ten_years_off_works_alone_and_merges_when_it_is_right(
    make_mesh: MakeMesh, offset_s: int, code: str
) -> None:
    mesh = make_mesh("BE", "NL")
    be, nl = mesh["BE"], mesh["NL"]
    mesh.start_all()
    mesh.wait_linked()
    with be.client() as client:
        incident = client.open_incident("other", {"title": "clocks"}, share_with=["NL"]).incident
    assert refusal_of(be, incident, "before") is None
    wait_holds([be, nl], incident, {"before"})
    assert nl.stop() == 0
    nl.command = (*altered("clock", offset_s), *MESHNODE)
    mesh.start(nl)
    wait_for(lambda: degraded(nl) == [code], 10.0, "the certificate is shown")
    assert code in log_codes(nl)
    assert texts(nl, incident) == ["before"]
    for number in range(3):
        assert refusal_of(nl, incident, f"at NL with a wrong clock {number}") is None
        assert refusal_of(be, incident, f"at BE meanwhile {number}") is None
    # Each refuses the other's certificate, and says so.
    wait_for(lambda: refusals(nl).get("dial-failed", 0) > 0, 20.0, "NL dials in vain")
    with nl.client() as client:
        assert client.node().peers_connected == 0
        other = client.open_incident("other", {"title": "alone, ten years off"}).incident
    assert nl.stop() == 0
    nl.command = MESHNODE
    mesh.start(nl)
    expected = {"before", *(f"at {where} {n}" for n in range(3) for where in ("NL with a wrong clock", "BE meanwhile"))}
    wait_holds([be, nl], incident, expected)
    assert degraded(nl) == []
    # What was written ten years off is not on top for ever, and what comes now can still be shared.
    assert refusal_of(nl, other, "later") is None
    with nl.client() as client:
        client.share(other, ["BE"], with_relays=True)  # every node of this mesh is one
    wait_holds([be, nl], other, {"later"})
