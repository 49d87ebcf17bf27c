"""How many threads this process may use: the cores it may run on, cut by the container's quota.

A container with 2 of a machine's 64 cores sees all 64. Threads beyond its quota make no one faster: the kernel stops
the whole container until the next period.
"""

from __future__ import annotations

import os
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")


def threads(mount: Path = MOUNT) -> int:
    """Cores by affinity, at most what the quota pays for in full, at least one."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    paid = quota(mount)
    return cores if paid is None else max(1, min(cores, int(paid)))


def quota(mount: Path = MOUNT) -> float | None:
    """Cores that the control group's quota is worth; None without one, or where the kernel has no control groups."""
    v2 = _words(mount / "cpu.max")
    if len(v2) == 2:  # such as `150000 100000`, or `max 100000`
        return _ratio(v2[0], v2[1])
    for folder in ("cpu", "cpu,cpuacct"):  # version 1: -1 for no quota
        given = _words(mount / folder / "cpu.cfs_quota_us") + _words(mount / folder / "cpu.cfs_period_us")
        if len(given) == 2:
            return _ratio(given[0], given[1])
    return None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text("ascii").split()
    except (OSError, UnicodeDecodeError):
        return []


def _ratio(quota: str, period: str) -> float | None:
    if not (quota.isdigit() and period.isdigit() and int(period) and int(quota)):
        return None
    return int(quota) / int(period)
