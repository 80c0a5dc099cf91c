"""The lab from outside: can it run here, start it in namespaces of its own, take its answer, leave nothing behind.

The namespaces (network, mounts, processes) belong to the lab's processes alone. ``unshare`` starts the first of them;
it dies with ``unshare``, and with our end of its standard input; and with it the kernel ends everything in there. So
there is nothing to tidy up, also after SIGKILL.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from simulations.demo.cut import find_program
from simulations.scenario.plan import Plan, to_plain
from simulations.worlds.contract import Outcome, WorldUnavailableError
from simulations.worlds.lab.network import MACHINES_MAX

REPOSITORY = Path(__file__).parents[3]
TOOLS = ("unshare", "nsenter", "ip", "tc", "mount", "fallocate")
NODES_MAX = 40
"""A daemon takes some 60 MB and a second of a core to start."""
DURATION_S_MAX = 4 * 3600.0
"""The lab's time is real. Longer stories are for the other worlds."""
TRIAL = "mount -t tmpfs tmpfs /run && mkdir /run/netns && ip netns add one && ip tuntap add dev lab-tun mode tun"
TRIAL_TIMEOUT_S = 20.0


class LabError(Exception):
    """The lab could not be built or broke; says why. Nothing is known of the nodes."""


@dataclass(frozen=True, slots=True)
class LabWorld:
    name: str = "lab"
    keep: Path | None = None
    """Directory that gets logs, stores and recorded traffic at the end; no key files."""
    defect: str = ""
    """Planted in every member: one of ``simulations.defects``, to prove that the lab finds it."""
    timeline: bool = False
    """What is to be seen meanwhile is written down: each daemon is asked for it once a second."""
    quiet: bool = True
    """Progress goes to standard error only where that is a terminal; without it, always."""

    def run(self, plan: Plan) -> Outcome:
        """Raises WorldUnavailableError where it cannot run, LabError when the lab itself broke."""
        for reason in (why_not_here(), why_not(plan)):
            if reason:
                raise WorldUnavailableError(reason)
        kept = str(self.keep.absolute()) if self.keep else ""
        job = json.dumps({"plan": to_plain(plan), "keep": kept, "defect": self.defect, "timeline": self.timeline})
        process = subprocess.Popen(
            [*_namespaces(), sys.executable, "-m", "simulations.worlds.lab.inside"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if self.quiet and not sys.stderr.isatty() else None,
            cwd=REPOSITORY,
            # Ctrl-C is for us: we end the lab.
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(job.encode() + b"\n")
            process.stdin.flush()
            data = process.stdout.read()
        except BrokenPipeError:
            data = b""
        finally:
            process.kill()
            # Until the last process that could answer is gone.
            process.stdout.read()
            process.wait()
            process.stdin.close()
            process.stdout.close()
        if not data:
            raise LabError("the lab ended without an answer; run it with progress shown to see where")
        answer = pickle.loads(data)  # noqa: S301 - written by our own process
        if isinstance(answer, Outcome):
            return answer
        raise LabError(str(answer))


def why_not_here() -> str:
    """Code, reason and what to do where this machine cannot run the lab; empty where it can."""
    missing = [tool for tool in TOOLS if find_program(tool) is None]
    if missing:
        action = "install util-linux, mount and iproute2 (Linux only), or use another world"
        return f"lab-no-tools: {', '.join(missing)} is not here; {action}"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "lab-no-tun: /dev/net/tun cannot be opened; load the module tun, run as root, or use another world"
    done = subprocess.run(
        [*_namespaces(), "sh", "-c", TRIAL], capture_output=True, text=True, check=False, timeout=TRIAL_TIMEOUT_S
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        action = "run as root, or where user namespaces are allowed, or use another world"
        why = said[-1] if said else "no reason given"
        return f"lab-no-rights: namespaces, networks or mounts cannot be made ({why}); {action}"
    return ""


def why_not(plan: Plan) -> str:
    """Code, reason and what to do where the lab cannot perform this plan; empty where it can."""
    if len(plan.nodes) > NODES_MAX:
        return f"lab-too-many-nodes: {len(plan.nodes)} daemons; at most {NODES_MAX} here, or use another world"
    if plan.duration_s > DURATION_S_MAX:
        action = f"at most {DURATION_S_MAX:.0f} s here, or use another world"
        return f"lab-too-long: {plan.duration_s:.0f} s of real time; {action}"
    if len(plan.nodes) + _clones(plan) > MACHINES_MAX:
        return f"lab-too-many-nodes: with its clones more than {MACHINES_MAX} machines; use another world"
    return ""


def _clones(plan: Plan) -> int:
    return sum(getattr(action, "verb", "") == "clone" for action in plan.actions)


def _namespaces() -> list[str]:
    """What starts a command in namespaces of its own. Without being root, a user namespace gives the rights."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    unshare = find_program("unshare") or "unshare"
    return [unshare, *as_root, "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
