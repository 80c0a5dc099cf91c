"""The lab: real ``meshnode run`` processes, each with a network of its own, in real time on this machine.

* ``world``: from outside: can it run here, start it, take its answer, leave nothing behind
* ``inside``: the first process of the lab's own namespaces: builds, performs the plan, looks at what is left
* ``network``: one network per machine, a router between them, and what the kernel does to packets
* ``shaper``, ``forwarder``: what a user-space router does to packets: late, twice, damaged, held
* ``state``: which of all that holds between two machines now, as the plan's faults come and go
* ``machines``: daemons: enrolled, killed, paused, wiped, cloned, given a full disk or a wrong clock
* ``clients``: who writes and reads at each machine
* ``evidence``: what stores, memories and packets hold at the end

Everything lives in namespaces that only the lab's processes hold, files included (a tmpfs): when the first of them
ends, however it ends, the kernel ends the others and takes back every network, mount and file.

What it cannot do: a power cut (a tmpfs loses nothing that was written), and time that runs faster. A run takes as long
as its plan, and the same seed draws the same faults and the same fate for the n-th packet between two machines, but
which packet is the n-th is up to real programs: ``Outcome.digest`` is empty.
"""

from simulations.worlds.lab.world import LabError as LabError
from simulations.worlds.lab.world import LabWorld as LabWorld
