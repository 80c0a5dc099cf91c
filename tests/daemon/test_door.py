"""Strangers at the door of a real daemon: each is refused with a code both sides read, and nothing else happens."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from processes import MakeMesh, log_codes, refusal_of, refusals
from world import make_identity

from meshnode import authority
from meshnode.core import certificates
from meshnode.core.events import DialFailed, LinkDown, LinkUp
from meshnode.core.hello import LinkAuthenticator
from meshnode.core.identity import Identity
from meshnode.core.keys import SigningKey
from meshnode.storage import keyfiles
from meshnode.transport.quic import QuicTransport
from meshnode.transport.quic_settings import QuicSettings
from simulations.mesh import Mesh, Node, wait_for

DAY_S = 24 * 3600
SETTINGS = QuicSettings(listen="127.0.0.1:0")


@pytest.fixture
def be(make_mesh: MakeMesh) -> Iterator[Node]:
    mesh = make_mesh("BE")
    mesh.start(mesh["BE"])
    yield mesh["BE"]
    # Whatever knocked: it serves on, and stops as if nothing had been.
    with mesh["BE"].client() as client:
        incident = client.open_incident("other", {"title": "still here"}).incident
    assert refusal_of(mesh["BE"], incident) is None
    assert mesh["BE"].stop() == 0


class Proof(LinkAuthenticator):
    """Shows what it is given as its hello, whatever that is; takes any answer."""

    def __init__(self, identity: Identity, changed: bytes | None = None) -> None:
        super().__init__(
            identity.device_key,
            identity.certificate.bundle,
            identity.network_root,
            identity.certificate.relay,
            time.time,
        )
        self._changed = changed
        self.said = b""

    def hello(self, local_tls_sha256: bytes, remote_tls_sha256: bytes, dialed: bool) -> bytes:
        self.said = super().hello(local_tls_sha256, remote_tls_sha256, dialed)
        return self.said if self._changed is None else self._changed


async def answer_to(node: Node, proof: LinkAuthenticator) -> str:
    """The code that ends the dial or the link; ``up`` when the link stays."""
    transport = QuicTransport(SETTINGS, proof, random.Random(1))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(transport.run)
            transport.dial(node.address)
            code = "up"
            with trio.move_on_after(10.0) as patience:
                async for record in transport.receive:
                    if isinstance(record, LinkUp):
                        patience.deadline = trio.current_time() + 0.2
                    elif isinstance(record, DialFailed | LinkDown):
                        code = record.code
                        break
            nursery.cancel_scope.cancel()
    return code


def is_linked(node: Node) -> bool:
    with node.client() as client:
        return client.node().peers_connected > 0


def assert_shown(node: Node, code: str) -> None:
    assert refusals(node)[code] >= 1
    wait_for(lambda: code in log_codes(node), 10.0, f"{code} is written down")
    assert not is_linked(node)


def device_of(enrolled: Mesh) -> Identity:
    return keyfiles.read_identity(enrolled["XX"].data)


def with_bundle(identity: Identity, bundle: bytes) -> Identity:
    certificate = certificates.verify_bundle_untrusted(bundle, identity.network_root)
    return Identity(identity.device_key, identity.store_key, certificate, identity.network_root)


async def test_an_enrolled_device_is_let_in(be: Node, enrolled: Mesh) -> None:
    assert await answer_to(be, Proof(device_of(enrolled))) == "up"


async def test_a_peer_without_a_certificate(be: Node, enrolled: Mesh) -> None:
    assert await answer_to(be, Proof(device_of(enrolled), b"let me in")) in (
        "peer-cbor-truncated",
        "peer-hello-malformed",
    )
    assert sum(count for code, count in refusals(be).items() if code in ("cbor-truncated", "hello-malformed")) == 1


async def test_a_certificate_of_a_foreign_network(be: Node) -> None:
    assert await answer_to(be, Proof(make_identity("NL", "1", network=7))) == "peer-certificate-foreign-network"
    assert_shown(be, "certificate-foreign-network")


async def test_an_expired_certificate(be: Node, enrolled: Mesh, tmp_path: Path) -> None:
    bundle = tmp_path / "expired.certificate"
    authority.certify(
        enrolled.directory / "authority" / "xx",
        enrolled["XX"].data / keyfiles.REQUEST_FILE,
        bundle,
        days=1,
        relay=False,
        replace=False,
        passphrase=None,
        now_s=time.time() - 30 * DAY_S,
    )
    expired = with_bundle(device_of(enrolled), keyfiles.read_handed_in(bundle, keyfiles.CERTIFICATE_LABEL))
    assert await answer_to(be, Proof(expired)) == "peer-certificate-expired"
    assert_shown(be, "certificate-expired")


def device_certificate(enrolled: Mesh, signer: str, noc: str, name: str) -> tuple[bytes, SigningKey]:
    """A bundle: the NOC certificate of ``signer``, and a device of ``noc`` that its root signed."""
    root_directory = enrolled.directory / "authority" / signer.lower()
    root = SigningKey(keyfiles.read(root_directory / authority.ROOT_KEY_FILE, authority.ROOT_KEY_LABEL, private=True))
    device = SigningKey(random.Random(name).randbytes(32))
    request = certificates.read_device_request_untrusted(certificates.make_device_request(device, noc, name))
    now_s = int(time.time())
    signed = certificates.make_device_certificate(
        root,
        keyfiles.read_network_root(enrolled["XX"].data),
        request,
        relay=False,
        not_before_s=now_s,
        not_after_s=now_s + DAY_S,
        serial=1,
    )
    noc_certificate = keyfiles.read(
        root_directory / authority.NOC_CERTIFICATE_FILE, authority.NOC_CERTIFICATE_LABEL, private=False
    )
    return certificates.make_bundle(noc_certificate, signed), device


class Impostor(LinkAuthenticator):
    """With a key and a bundle that need not fit each other."""

    def __init__(self, device: SigningKey, bundle: bytes, enrolled: Mesh) -> None:
        super().__init__(device, bundle, keyfiles.read_network_root(enrolled["XX"].data), False, time.time)


async def test_a_device_of_one_noc_that_another_nocs_root_certified(be: Node, enrolled: Mesh) -> None:
    bundle, device = device_certificate(enrolled, "XX", "NL", "nl-9")
    assert await answer_to(be, Impostor(device, bundle, enrolled)) == "peer-certificate-wrong-noc"
    assert_shown(be, "certificate-wrong-noc")


async def test_somebody_elses_certificate(be: Node, enrolled: Mesh) -> None:
    bundle = keyfiles.read_identity(enrolled["NL"].data).certificate.bundle
    stranger = SigningKey(random.Random(1).randbytes(32))
    assert await answer_to(be, Impostor(stranger, bundle, enrolled)) == "peer-bad-signature"
    assert_shown(be, "bad-signature")


async def test_a_hello_recorded_on_another_link(be: Node, enrolled: Mesh) -> None:
    honest = Proof(device_of(enrolled))
    assert await answer_to(be, honest) == "up"
    assert await answer_to(be, Proof(device_of(enrolled), honest.said)) == "peer-hello-other-link"
    wait_for(lambda: log_codes(be).count("link-down") == 1, 10.0, "the honest link is over")
    assert_shown(be, "hello-other-link")


async def test_a_copy_of_this_nodes_own_key(be: Node, enrolled: Mesh) -> None:
    copied = keyfiles.read_identity(enrolled["BE"].data)
    assert await answer_to(be, Proof(copied)) == "peer-hello-own-device"
    assert_shown(be, "hello-own-device")


async def test_another_noc_than_was_configured_for_an_address(make_mesh: MakeMesh) -> None:
    mesh = make_mesh("BE", "NL", "XX")
    be, nl, xx = mesh["BE"], mesh["NL"], mesh["XX"]
    mesh.configure(xx, [])
    mesh.configure(be, [nl])
    # The address that should be of NL leads to XX.
    be.config.write_text(be.config.read_text().replace(nl.address, xx.address))
    mesh.start(xx)
    mesh.start(be)
    wait_for(lambda: "not-as-configured" in log_codes(be), 20.0, "the wrong NOC is noticed")
    assert refusals(be)["not-as-configured"] >= 1


async def test_a_peer_that_is_configured_by_name_is_held_to_its_pin_and_dialled_again(make_mesh: MakeMesh) -> None:
    mesh = make_mesh("BE", "NL")
    be, nl = mesh["BE"], mesh["NL"]
    mesh.configure(nl, [])
    be.config.write_text(be.config.read_text().replace("127.0.0.1:" + str(nl.port), f"localhost:{nl.port}"))
    mesh.start_all()
    wait_for(lambda: is_linked(be), 20.0, "the link is up")
    assert nl.stop() == 0
    wait_for(lambda: not is_linked(be), 20.0, "the link is down")
    mesh.start(nl)
    wait_for(lambda: is_linked(be), 30.0, "the link is up again")
    assert be.stop() == 0
    be.config.write_text(be.config.read_text().replace('noc = "NL"', 'noc = "XX"'))
    mesh.start(be)
    wait_for(lambda: "not-as-configured" in log_codes(be), 20.0, "the wrong NOC is noticed")


async def test_a_node_that_has_as_many_links_as_it_is_allowed_refuses_another_and_keeps_what_it_has(
    make_mesh: MakeMesh,
) -> None:
    mesh = make_mesh("BE", "NL", "XX")
    be, nl, de = mesh["BE"], mesh["NL"], mesh["XX"]
    mesh.configure(be, [])
    be.config.write_text(be.config.read_text().replace("[links]", "[links]\nmax = 1"))
    for node in (nl, de):
        mesh.configure(node, [be])
    for node in (be, nl):
        mesh.start(node)
    wait_for(lambda: is_linked(be), 20.0, "the link is up")
    mesh.start(de)
    wait_for(lambda: "too-many-links" in refusals(be), 20.0, "the newcomer is refused")
    wait_for(lambda: "connection-refused" in de.log.read_text(), 20.0, "the newcomer knows why")
    assert is_linked(be)
