"""The composition root: reads what the node was given, builds the rooms, runs them in one nursery, stops in order.

Start: lock the data directory, read the keys, open the store, build the node, open the sockets, serve. Whatever is
wrong with this machine (a key file, a port, a disk) is a LocalFaultError before anything is served.

Stop (SIGTERM, SIGINT): the local API takes no more requests and finishes those it has, the loop makes everything
durable and writes checkpoints, the links say goodbye. ``STOP_GRACE_S`` bounds all of it but a write that the disk has
begun: that one ends as it will.

What ends the process otherwise is a mistake of this program: it leaves with a traceback, never half alive. Two rooms
that face strangers are the exception and are held apart, the links (``links``) and each client of the local API.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from meshnode import __version__
from meshnode.api.server import ApiServer
from meshnode.api.settings import ApiLimits, ApiSettings, SocketSettings
from meshnode.api.sockets import open_listeners
from meshnode.config import Config
from meshnode.config.surroundings import closed_directories, exposed, group_id, relay_not_certified
from meshnode.core.custody import RelaySettings
from meshnode.core.events import AddressFound, Now
from meshnode.core.hello import LinkAuthenticator
from meshnode.core.identity import Identity
from meshnode.core.ids import DeviceId
from meshnode.core.node import Node, NodeSettings
from meshnode.core.peers import ConfiguredPeer, DialSettings
from meshnode.daemon.disk import DiskThread
from meshnode.daemon.journal import Reporter, say, set_up
from meshnode.daemon.links import Links
from meshnode.daemon.loop import Loop
from meshnode.daemon.service import Service
from meshnode.daemon.serving import STOP_GRACE_S, Rooms, serve
from meshnode.errors import LocalFaultError
from meshnode.storage import keyfiles
from meshnode.storage.lock import DataDirLock
from meshnode.storage.sqlite import SqliteLogStore
from meshnode.transport.quic import QuicTransport
from meshnode.transport.quic_settings import QuicSettings

STORE_FILE = "meshnode.db"


def run(config: Config) -> None:
    """Runs the node until it is told to stop. Raises LocalFaultError when this machine is at fault."""
    set_up(config.log.level, config.log.format)
    with DataDirLock.acquire(config.node.data_dir):
        identity = _identity(config.node.data_dir)
        store = SqliteLogStore.open(config.node.data_dir / STORE_FILE)
        try:
            trio.run(_with_disk, config, identity, store)
        except BaseExceptionGroup as group:
            fault = _only_fault(group)
            if fault is None:
                raise
            raise fault from None
        finally:
            store.close()


def _only_fault(group: BaseExceptionGroup[BaseException]) -> LocalFaultError | None:
    """The fault of this machine that ended the nurseries; None when anything else had a part in it."""
    faults, rest = group.split(LocalFaultError)
    leaf: BaseException | None = None if rest is not None else faults
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf if isinstance(leaf, LocalFaultError) else None


def _identity(data_dir: Path) -> Identity:
    read = keyfiles.read_identity(data_dir)
    return Identity(read.device_key, read.store_key, read.certificate, read.network_root)


def _clock() -> Now:
    return Now(trio.current_time(), int(time.time() * 1000))


def _node_settings(config: Config, relay: bool) -> NodeSettings:
    return NodeSettings(
        peers=tuple(
            ConfiguredPeer(peer.addresses, peer.noc, DeviceId(bytes.fromhex(peer.device)) if peer.device else None)
            for peer in config.peers
        ),
        advertise=config.listen.advertise,
        relay=RelaySettings(
            relay, config.relay.quota_incident_bytes, config.relay.quota_total_bytes, config.relay.time_to_live_s
        ),
        dial=DialSettings(config.links.redial_min_s, config.links.redial_max_s),
        anti_entropy_interval_s=config.sync.anti_entropy_interval_s,
    )


def _api_settings(config: Config) -> ApiSettings:
    read = config.api.read_socket
    return ApiSettings(
        change=SocketSettings(str(config.socket), config.api.mode, group_id(config.api.group)),
        read=None if read is None else SocketSettings(str(read), config.api.mode, group_id(config.api.group)),
        limits=ApiLimits(),
    )


async def _with_disk(config: Config, identity: Identity, store: SqliteLogStore) -> None:
    # Received from here on: whoever stops a node that is still starting gets a clean stop too.
    with DiskThread() as disk, trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        await _serve(config, identity, store, disk, signals)


async def _serve(
    config: Config, identity: Identity, store: SqliteLogStore, disk: DiskThread, signals: AsyncIterator[int]
) -> None:
    relay = config.node.relay and identity.certificate.relay
    rng = random.Random(os.urandom(16))  # noqa: S311 - back-off and jitter need no secrecy
    settings = _node_settings(config, relay)
    links = _links(config, identity, relay, rng)
    report = Reporter(trio.current_time)
    loop = Loop(
        lambda read_only: Node(identity, settings, store, rng, os.urandom, _clock(), read_only=read_only),
        store,
        disk,
        links,
        _clock,
        report,
    )
    for notice in store.notices():
        loop.note_degraded(notice)
    if config.node.relay and not relay:
        loop.note_degraded(relay_not_certified())
    for odd in [*closed_directories(config), *exposed(config)]:
        say(odd.code, f"{odd.reason}; {odd.action}", logging.WARNING)
    server = ApiServer(Service(loop, store, links, _clock), ApiLimits(), loop.count_refusal)
    listeners = open_listeners(_api_settings(config))
    certificate = identity.certificate

    def on_serving(nursery: trio.Nursery, address: str) -> None:
        if config.discovery.mdns:
            nursery.start_soon(_discover, config, identity, address, loop, rng)
        say("serving", f"{certificate.noc}/{certificate.name} {__version__} on {address}, API {config.socket}")

    in_time = await serve(
        Rooms(loop, store, links, server, listeners, certificate, time.time, report),
        on_serving,
        lambda: anext(signals),
        lambda: say("stopping", "asked to stop"),
    )
    if not in_time:
        say("stop-cut-short", f"not everybody was answered within {STOP_GRACE_S:g} s", logging.WARNING)
    say("stopped", "everything acknowledged is durable")


def _links(config: Config, identity: Identity, relay: bool, rng: random.Random) -> Links:
    authenticator = LinkAuthenticator(
        identity.device_key, identity.certificate.bundle, identity.network_root, relay, time.time
    )
    return Links(lambda: QuicTransport(_quic_settings(config), authenticator, rng))


async def _discover(config: Config, identity: Identity, address: str, loop: Loop, rng: random.Random) -> None:
    from meshnode.discovery.mdns import discover
    from meshnode.discovery.settings import DiscoverySettings

    settings = DiscoverySettings(identity.network_root, address, config.discovery.interface)
    await discover(settings, lambda found: loop.offer(AddressFound("mdns", found)), say, rng)


def _quic_settings(config: Config) -> QuicSettings:
    idle_s = config.links.idle_timeout_s
    return QuicSettings(
        listen=config.listen.address,
        idle_timeout_seconds=idle_s,
        keepalive_seconds=idle_s / 3,
        links_max=config.links.links_max,
    )
