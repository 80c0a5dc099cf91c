"""Two ends of one QUIC link on a table: no sockets, no tasks, and a clock that is turned by hand."""

from __future__ import annotations

from typing import Any

from transport_support import QUICK, KeyAuthenticator

from meshnode.core.events import LinkUp
from meshnode.transport.base import HELLO_STREAM_BYTES_MAX
from meshnode.transport.quic_link import Output, QuicLink
from meshnode.transport.quic_settings import QuicSettings
from meshnode.transport.quic_tls import make_configuration, make_tls_identity
from meshnode.transport.quic_window import BoundedConnection

DIALER, ACCEPTOR = ("192.0.2.1", 1), ("192.0.2.2", 2)


class LinkPair:
    """``dialer`` and ``acceptor``; ``outputs`` of each since the last look; ``run`` carries datagrams until quiet."""

    def __init__(self, settings: QuicSettings = QUICK) -> None:
        self.now = 1_000.0
        self.settings = settings
        self.outputs: dict[QuicLink, list[Output]] = {}
        self.handed: set[int] = set()
        client = BoundedConnection(self._configuration(True))
        server = BoundedConnection(
            self._configuration(False), original_destination_connection_id=client.original_destination_connection_id
        )
        self.dialer = self._link(1, client, ACCEPTOR, "192.0.2.2:2")
        self.acceptor = self._link(2, server, DIALER, None)
        client.connect(ACCEPTOR, self.now)

    def _configuration(self, is_client: bool) -> Any:
        self._identity = make_tls_identity()
        return make_configuration(self._identity, is_client, self.settings.idle_timeout_seconds, HELLO_STREAM_BYTES_MAX)

    def _link(self, seed: int, quic: BoundedConnection, peer: tuple[str, int], address: str | None) -> QuicLink:
        identity = make_tls_identity()
        quic.configuration.certificate, quic.configuration.private_key = identity.certificate, identity.key
        link = QuicLink(
            seed, quic, peer, address, identity, KeyAuthenticator(seed), self.settings,
            self.settings.keepalive_seconds, self.now,
        )  # fmt: skip
        self.outputs[link] = []
        return link

    def carry(self, sender: QuicLink) -> int:
        """Moves what one end has to send to the other; how many datagrams that were."""
        receiver = self.acceptor if sender is self.dialer else self.dialer
        self.outputs[sender] += sender.settle(self.now)
        datagrams = sender.transmit(self.now)
        for data, _ in datagrams:
            receiver.receive_datagram(data, DIALER if sender is self.dialer else ACCEPTOR, self.now)
        self.outputs[receiver] += receiver.settle(self.now)
        return len(datagrams)

    def run(self, seconds: float = 0.1) -> None:
        """Lets time pass in small steps, with a perfect network."""
        end = self.now + seconds
        while self.now < end:
            while self.carry(self.dialer) + self.carry(self.acceptor):
                pass
            self.now += 0.002
            for link in (self.dialer, self.acceptor):
                link.handle_deadline(self.now)

    def up(self) -> LinkPair:
        self.run()
        for link in (self.dialer, self.acceptor):
            assert [output for output in self.outputs[link] if isinstance(output, LinkUp)]
            self.outputs[link].clear()
        return self

    def take(self, link: QuicLink, kind: type) -> list[Any]:
        taken = [output for output in self.outputs[link] if isinstance(output, kind)]
        self.outputs[link] = [output for output in self.outputs[link] if not isinstance(output, kind)]
        return taken
