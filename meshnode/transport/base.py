"""What a link is, and what the daemon may know about it.

A *link* is one authenticated connection to one peer, with two ordered streams of whole frames: ``CONTROL`` (small and
urgent) and ``BULK`` (large, never in the way). A transport makes links, in both directions, and knows nothing of what
the frames mean. It comes in two kinds with one behaviour: QUIC on a UDP socket (``quic``) and inside one process
(``memory``); one test suite runs against both.

- All calls are plain calls, made from the one trio thread. What happened comes out of ``receive``, in this order for
  each link: one ``LinkUp``, any number of ``Received`` and ``RoundTrip``, one ``LinkDown``. A link that never got up
  says nothing, except ``DialFailed`` when this node dialled it.
- Deny until proven: before both hellos verified a peer gets one stream, 8 KiB and 3 seconds, and no word about who
  this node is. The acceptor answers with its own hello only after it verified the dialler's, so ``LinkUp`` at the
  dialler means that both ends hold proof.
- Frames are whole and come in order on each stream; between the two streams there is no order.
- A frame handed to ``send`` may still be lost when the link dies. Whoever needs more asks again on the next link.
- Nothing a peer sends ends anything but its own link.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Protocol

import trio

from meshnode.core.events import Channel, DialFailed, LinkDown, LinkUp, PeerIdentity, Received, RoundTrip
from meshnode.errors import UntrustedInputError

Record = LinkUp | LinkDown | Received | DialFailed | RoundTrip

FRAME_BYTES_MAX = 1_048_576
"""The largest frame, without its length. One batch of a catch-up fits; a hostile length cannot claim more memory."""

FRAME_HEADER_BYTES = 4
"""A frame on a stream is its length (unsigned, big-endian) and its bytes."""

HELLO_STREAM_BYTES_MAX = 8_192
"""All that an unproven peer may send on the one stream it has: a hello is a certificate bundle of about 1 KiB."""

HELLO_BYTES_MAX = HELLO_STREAM_BYTES_MAX - FRAME_HEADER_BYTES

CONTROL_QUEUE_BYTES_MAX = 1_048_576
"""Unsent CONTROL bytes of one link: one largest frame, or some thousand pushes. More means the peer does not read."""

BULK_QUEUE_BYTES_MAX = 4_194_304
"""Unsent BULK bytes of one link: four largest frames keep a fast link busy while the next answer is read from disk."""

RECEIVE_RECORDS_MAX = 64
"""Records waiting for the daemon. Enough for one group commit; at most 64 frames, so 64 MiB in the worst case. What
does not fit waits in its link, whose window closes (see ``delivery``)."""


DOOR_SOURCES_MAX = 64
"""Sources of refused strangers that are remembered until somebody asks; of more, only the counters tell."""


def note_refused(refused: dict[str, str], address: str, code: str) -> None:
    """Remembers why the last one who came from ``address`` never became a link."""
    if address in refused or len(refused) < DOOR_SOURCES_MAX:
        refused[address] = code


class Authenticator(Protocol):
    """Who we are and who they are. The real one is ``core.hello``; it signs and verifies with device keys."""

    def hello(self, local_tls_sha256: bytes, remote_tls_sha256: bytes, dialed: bool) -> bytes:
        """Our proof for one link, at most HELLO_BYTES_MAX bytes, bound to both TLS certificates and to our role."""
        ...

    def verify_untrusted(
        self, data: bytes, local_tls_sha256: bytes, remote_tls_sha256: bytes, dialed: bool
    ) -> PeerIdentity:
        """Who is at the other end. Raises UntrustedInputError; there is no other answer."""
        ...


class Transport(Protocol):
    """Makes links. Every method but ``run`` is a plain call that never blocks and never fails because of a peer."""

    @property
    def receive(self) -> trio.MemoryReceiveChannel[Record]:
        """What happened, oldest first. Bounded: a slow reader closes the windows of the peers that send."""
        ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where this node listens, as ``host:port``; empty before ``run`` has started."""
        ...

    async def run(self, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until cancelled, then closes ``receive``. The started value is the bound address.

        Once only. LocalFaultError ``cannot-listen`` when the address cannot be bound.
        """
        ...

    def dial(self, address: str) -> None:
        """Opens a link to ``ip:port``, ``[ip6]:port`` or ``name:port``: ends in one LinkUp or one DialFailed."""
        ...

    def send(self, link: int, channel: Channel, data: bytes, droppable: bool) -> None:
        """Queues one frame. Silently nothing when the link is gone: its LinkDown is on the way.

        A droppable frame is dropped, and counted, when the queue is more than half full. Any other frame that does
        not fit closes the link with ``send-queue-full``. ValueError when ``data`` is empty or too large.
        """
        ...

    def close(self, link: int, code: str) -> None:
        """Closes a link and tells the peer the code. LinkDown with the same code follows."""
        ...


@dataclass(frozen=True, slots=True)
class CodeEntry:
    reason: str
    action: str


CODES: dict[str, CodeEntry] = {
    # The node's own doing.
    "shutting-down": CodeEntry("the node stops", "none; the link comes back when the node does"),
    "send-queue-full": CodeEntry(
        "the peer does not take what is sent to it", "look at the peer's load and at the link's bandwidth"
    ),
    # The link itself.
    "idle-timeout": CodeEntry("nothing was heard for the idle time-out", "check the network path to the peer"),
    "connect-timeout": CodeEntry(
        "the other end did not complete the QUIC handshake in time", "check the address, the peer and firewalls (UDP)"
    ),
    "hello-timeout": CodeEntry("no hello within the time allowed", "check that the other end is a meshnode"),
    "connection-refused": CodeEntry("the peer has no room for another link", "dial again later"),
    "too-many-links": CodeEntry(
        "this node has as many links as links.max allows", "raise links.max, or configure fewer peers"
    ),
    "cannot-listen": CodeEntry("the UDP address cannot be bound", "choose a free port and an address of this host"),
    "network-path-lost": CodeEntry("the peer's new address could not be validated", "none; the link is dialled again"),
    # Dialling.
    "bad-address": CodeEntry("the address is not host:port", "write 192.0.2.1:7411, [2001:db8::1]:7411 or name:7411"),
    "name-not-found": CodeEntry("the name does not resolve", "check the name and the resolver"),
    "name-timeout": CodeEntry("the resolver did not answer in time", "check the resolver or write the IP address"),
    "address-family": CodeEntry("the listening socket cannot reach addresses of this family", "listen on [::]"),
    # Refusals of what the other end sent.
    "no-client-certificate": CodeEntry("the dialler proved no TLS certificate", "only meshnode may dial this port"),
    "hello-too-large": CodeEntry("the first frame is larger than a hello may be", "check the peer's version"),
    "frame-empty": CodeEntry("a frame of length zero", "check the peer's version"),
    "frame-too-large": CodeEntry("a frame longer than 1 MiB", "check the peer's version"),
    "unexpected-stream": CodeEntry("a stream besides CONTROL and BULK", "check the peer's version"),
    "stream-closed": CodeEntry("the peer ended or reset a stream of the link", "check the peer's version"),
    "stream-fragmented": CodeEntry("a stream came in absurdly many pieces", "check the peer and the path"),
    "window-exceeded": CodeEntry("the peer sent more than it was granted", "check the peer's version"),
    "protocol-violation": CodeEntry("the peer broke QUIC's rules", "check the peer's version and the path"),
    "tls-refused": CodeEntry("the TLS handshake failed", "check that both ends run compatible versions"),
    "version-mismatch": CodeEntry("no common version of QUIC or of the protocol", "upgrade the older end"),
    "internal-error": CodeEntry("handling the peer's bytes failed in a way not foreseen", "report it as a defect"),
    "too-many-half-open": CodeEntry("too many incoming connections are unproven", "look for a flood of this port"),
    "retry-asked": CodeEntry("a newcomer was asked to prove its address", "none; it shows a flood or a start"),
    "bad-retry-token": CodeEntry("a newcomer's address token is wrong or old", "none; an honest peer dials again"),
    # What became of frames and datagrams; only counted.
    "frame-dropped": CodeEntry("a droppable frame found the queue more than half full", "look at the link's bandwidth"),
    "datagram-lost": CodeEntry("the system did not send a datagram", "check routes, the firewall and socket buffers"),
    # What the peer said; every other code of the peer's arrives with the prefix ``peer-``.
    "closed-by-peer": CodeEntry("the peer closed the link and gave no reason", "look at the peer's status"),
}
"""Why a link or a dial ended, or a datagram's sender was refused. ``UntrustedInputError.code`` of the authenticator
joins these. A code with the prefix ``peer-`` is what the other end said: ``peer-send-queue-full``."""

_CODE_FORM = re.compile(r"[a-z][a-z0-9-]{0,47}")


def peer_code_untrusted(phrase: str) -> str:
    """The code for a link that the peer closed: ``peer-<code>`` when the phrase has the form of a code."""
    return f"peer-{phrase}" if _CODE_FORM.fullmatch(phrase) else "closed-by-peer"


def reason_of(code: str) -> str:
    """A sentence for a person. For codes of the peer's and of other rooms, the code itself."""
    entry = CODES.get(code)
    if entry is not None:
        return entry.reason
    return f"the other end said: {code.removeprefix('peer-')}" if code.startswith("peer-") else code


def parse_address_untrusted(address: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[ip6]:port``; UntrustedInputError ``bad-address``."""
    host, colon, port_text = address.rpartition(":")
    if colon and len(address) <= 261 and port_text.isascii() and port_text.isdigit() and len(port_text) <= 5:
        port = int(port_text)
        bracketed = host.startswith("[") and host.endswith("]")
        name = host[1:-1] if bracketed else host
        if name and 0 < port < 65_536 and (":" in name) == bracketed and not set(name) & set("[] \t\r\n\0"):
            return name, port
    raise UntrustedInputError("bad-address", CODES["bad-address"].reason, CODES["bad-address"].action)


def format_address(sockaddr: tuple[Any, ...]) -> str:
    """``host:port`` of a socket address; IPv6 in brackets, IPv4 seen through an IPv6 socket as IPv4."""
    host, port = str(sockaddr[0]), int(sockaddr[1])
    mapped = host.removeprefix("::ffff:")
    if mapped != host and "." in mapped:
        host = mapped
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_frame(data: bytes) -> None:
    """ValueError for a frame that no transport may send: the caller is at fault, not the peer."""
    if not 0 < len(data) <= FRAME_BYTES_MAX:
        raise ValueError(f"a frame has 1 to {FRAME_BYTES_MAX} bytes, not {len(data)}")
