"""Nodes that lie: the real node, enrolled, linked, a member or a relay, in the hands of somebody hostile.

A liar is ``meshnode.core`` with a **mind** beside it (``mind``). The node goes on as it is: it dials, syncs, writes
what its clients ask. The mind hears what it hears, changes what it says, and says more: it holds the node's keys. What
can be forged with them is in ``forging``; the lies are in ``entries``, ``epochs`` and ``two_keys`` (what only a member
can do), ``frames`` (what any peer can send) and ``relays`` (what is done to the traffic of others); ``lying`` names
them. ``newer`` is no liar: a node of a later version, which says more than this one knows.

Every lie tells the **ring** (``ring``) which entries it made, and what honest nodes may at most make of them: so the
checkers neither blame honest nodes for what a member was free to write, nor overlook what nobody was free to do.

Nothing here is part of the product, and the product has no hook for it.
"""
