"""Benchmarks of real daemons, each figure beside a yardstick taken in the same run.

An absolute figure says as much about the machine and its other users as about the software. So every run also measures
the bare thing underneath (one SQLite commit, one aioquic round trip, aioquic moving the same bytes), on the same disk
and a moment apart, and what is compared from day to day is the ratio. Figures are medians over runs.

`figures` says what a result is, `place` prepares and restores daemons, `stores` fills a store with entries, `load` and
`watch` are the clients, `relay` counts bytes between two daemons, `yardsticks` and `bare_quic` measure what is
underneath. The benchmarks themselves: `spreading`, `syncing` (catch-up, difference, start), `serving` (write, query)
and `resting`. How to read them: docs/benchmarks.md. `virtual_mesh` has no daemon in it: it measures the protocol world
(``python -m simulations speed``, docs/simulating.md).
"""
