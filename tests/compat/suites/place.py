"""A place of its own for a broker and a suite: a network and a process table that nobody else sees.

So a suite that insists on port 5672 finds its broker there, both brokers can run at once, no suite reaches anything but
its broker, and nothing is left of either when its place is gone.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from compat.suites.packages import Unavailable

UNSHARE = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")


def command(*inside: str) -> list[str]:
    """The command that runs `inside` in a place of its own. Raises Unavailable if this machine allows none."""
    if missing := [tool for tool in ("unshare", "ip") if not shutil.which(tool)]:
        raise Unavailable(f"there is no {missing[0]}")
    users = () if os.geteuid() == 0 else ("--map-root-user",)
    enter = [*UNSHARE, *users, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    tried = subprocess.run([*enter, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise Unavailable(f"no network namespace can be had here: {tried.stderr.strip()}")
    return [*enter, *inside]
