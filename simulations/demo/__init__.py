"""The demonstration: five daemons on this machine share one incident, and go on when the hub dies.

* ``story``: what happens, step by step, and what must hold after each
* ``cut``: how a node is cut off from all others, really, on whatever rights this machine gives
* ``capture``: everything that goes into and out of the hub, as a pcap file
* ``search``: every word of the incident, in the forms in which it could hide
* ``report``: what a person reads, and the one place where a check can fail
"""
