"""Finding peers on the local network by mDNS/DNS-SD (RFC 6762, RFC 6763).

A node knows where to dial from three sources, none of which is needed for another to work:

* **configured** addresses (``core.peers``): dialled for ever. The only source a network should rely on.
* **learned** from peers, who name the addresses at which they reached others (``core.exchange``): dialled the same way
  while they are young.
* **mDNS** (this room): what a node on the same link announces about itself. Off unless switched on.

All three only say *where*; *who* is there is proven by the hello on the link, every time. So this room passes on bare
addresses, promises nothing about them, and whatever goes wrong in it costs a hint and nothing else.

* ``settings``: limits and codes
* ``interfaces``: which of this host's interfaces and addresses take part
* ``announcement``: what is said to the network, and how the same from others is read
* ``hints``: how many addresses are passed on
* ``session``: zeroconf on a thread and an asyncio loop of its own
* ``mdns``: the task that starts sessions, watches them and starts them again
"""
