"""Two hosts and a cable: real processes, each in a network namespace of its own, joined by a pair of interfaces."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

HOST = Path(__file__).with_name("lan_host.py")
CABLE = "mesh0"
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


def can_make_hosts() -> bool:
    if os.geteuid() != 0 or not all(shutil.which(tool) for tool in ("unshare", "nsenter", "ip")):
        return False
    cable = ["unshare", "-n", "ip", "link", "add", "name", CABLE, "type", "veth", "peer", "name", "mesh1"]
    return subprocess.run(cable, check=False, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not can_make_hosts(), reason="needs the right to make network namespaces")


class Host:
    """A process with a network of its own; its lines are read one by one."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.heard: list[list[str]] = []
        self._partial = b""

    async def hears(self, *line: str) -> None:
        """Waits for a line; those before it stay in ``heard``."""
        assert self.process.stdout is not None
        while list(line) not in [heard[: len(line)] for heard in self.heard]:
            data = await self.process.stdout.receive_some()
            assert data, f"the host has ended; it said {self.heard}"
            *lines, self._partial = (self._partial + data).split(b"\n")
            self.heard += [json.loads(text) for text in lines]

    async def ip(self, *arguments: str) -> None:
        """Runs ``ip`` on that host."""
        await trio.run_process(["nsenter", "-t", str(self.process.pid), "-n", "ip", *arguments])


@asynccontextmanager
async def two_hosts(listen: str) -> AsyncIterator[tuple[Host, Host]]:
    """Both start without any network, and say so; then they are joined by a cable that has no address yet."""
    network = secrets.token_hex(32)
    command = ["unshare", "-n", sys.executable, str(HOST), listen, network]
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            hosts = []
            for _ in range(2):
                hosts.append(Host(await nursery.start(partial(trio.run_process, command, **PIPES))))
            one, two = hosts
            await one.hears("mdns-no-interface")
            await two.hears("mdns-no-interface")
            ends = [["name", CABLE, "netns", str(host.process.pid)] for host in hosts]
            await trio.run_process(["ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1]])
            yield one, two
            for host in hosts:
                assert host.process.stdin is not None
                await host.process.stdin.aclose()


async def plug_in(host: Host, *addresses: str) -> None:
    # No link-local address by itself: it would come seconds later, after its check for duplicates.
    await host.ip("link", "set", CABLE, "addrgenmode", "none")
    await host.ip("link", "set", CABLE, "up")
    for address in addresses:
        nodad = ["nodad"] if ":" in address else []
        await host.ip("address", "add", address, "dev", CABLE, *nodad)


async def test_hosts_that_get_a_network_after_the_start_find_each_other_by_ipv4() -> None:
    async with two_hosts("0.0.0.0:7411") as (one, two):
        await plug_in(one, "192.0.2.1/24")
        await plug_in(two, "192.0.2.2/24")
        await one.hears("found", "192.0.2.2:7411")
        await two.hears("found", "192.0.2.1:7411")


async def test_hosts_with_both_families_find_each_other_by_both() -> None:
    async with two_hosts("[::]:7411") as (one, two):
        await plug_in(one, "192.0.2.1/24", "2001:db8::1/64")
        await plug_in(two, "192.0.2.2/24", "2001:db8::2/64")
        for line in ("192.0.2.2:7411", "[2001:db8::2]:7411"):
            await one.hears("found", line)
        for line in ("192.0.2.1:7411", "[2001:db8::1]:7411"):
            await two.hears("found", line)


async def test_hosts_with_nothing_but_link_local_addresses_find_each_other() -> None:
    async with two_hosts("[::]:7411") as (one, two):
        await plug_in(one, "fe80::1/64")
        await plug_in(two, "fe80::2/64")
        await one.hears("mdns-ready")
        await two.hears("mdns-ready")
        while not any(line[0] == "found" for line in one.heard):
            await one.hears("found")
        found = next(line[1] for line in one.heard if line[0] == "found")
        assert found.startswith("[fe80::2%")


async def test_a_changed_address_is_announced_and_found() -> None:
    async with two_hosts("0.0.0.0:7411") as (one, two):
        await plug_in(one, "192.0.2.1/24")
        await plug_in(two, "192.0.2.2/24")
        await one.hears("found", "192.0.2.2:7411")
        await two.ip("address", "add", "198.51.100.2/24", "dev", CABLE)
        await two.hears("mdns-interfaces-changed")
        await two.ip("address", "del", "192.0.2.2/24", "dev", CABLE)
        await two.ip("address", "add", "192.0.2.3/24", "dev", CABLE)
        await one.hears("found", "192.0.2.3:7411")


async def test_hosts_find_each_other_after_the_cable_was_cut_from_the_start() -> None:
    """Announcements of the start are lost; only asking again finds the other."""
    async with two_hosts("0.0.0.0:7411") as (one, two):
        await plug_in(one, "192.0.2.1/24")
        await one.hears("mdns-ready")
        await two.ip("address", "add", "192.0.2.2/24", "dev", CABLE)
        await two.hears("mdns-ready")
        assert ["found", "192.0.2.2:7411"] not in one.heard
        await two.ip("link", "set", CABLE, "up")
        await one.hears("found", "192.0.2.2:7411")
        await two.hears("found", "192.0.2.1:7411")


async def test_a_port_that_another_program_keeps_for_itself_is_reported_until_it_is_free() -> None:
    async with two_hosts("0.0.0.0:7411") as (one, two):
        keeper = (
            "import socket,sys; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 5353)); "
            "sys.stdout.write('bound'); sys.stdout.flush(); sys.stdin.read()"
        )
        async with trio.open_nursery() as nursery:
            command = ["nsenter", "-t", str(one.process.pid), "-n", sys.executable, "-c", keeper]
            process = await nursery.start(partial(trio.run_process, command, **PIPES))
            assert await process.stdout.receive_some() == b"bound"
            await plug_in(one, "192.0.2.1/24")
            await plug_in(two, "192.0.2.2/24")
            await one.hears("mdns-unavailable")
            assert "mdns-ready" not in [line[0] for line in one.heard]
            await process.stdin.aclose()
        await one.hears("found", "192.0.2.2:7411")
