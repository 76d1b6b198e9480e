"""What the machine is that figures come from."""

import os
import platform
import shutil
from pathlib import Path

from .processes import Failed, run_tool

# In memory, where an fsync costs nothing.
NO_DISK = {"tmpfs", "ramfs", "devtmpfs"}


def describe(data):
    """Facts about the machine and the disk that `data` is on."""
    return {
        "cores": os.cpu_count(),
        "cpu": first_value("/proc/cpuinfo", "model name"),
        "memory_gib": round(int(first_value("/proc/meminfo", "MemTotal").split()[0]) / 2**20, 1),
        "kernel": platform.release(),
        "filesystem": filesystem(data),
        "vm_dirty_ratio": int(Path("/proc/sys/vm/dirty_ratio").read_text()),
        "vm_dirty_background_ratio": int(
            Path("/proc/sys/vm/dirty_background_ratio").read_text()),
        "python": platform.python_version(),
    }


def load():
    """The load average of the last minute: what else went on."""
    return round(os.getloadavg()[0], 2)


def first_value(file, key):
    """The first `key : value` of a file in /proc."""
    for line in Path(file).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "unknown 0"


def filesystem(path):
    """The type of the file system that a path is on: of the deepest mount above it."""
    path, found = path.resolve(), ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind = line.split()[:3]
        if path.is_relative_to(place) and len(place) >= len(found[0]):
            found = (place, kind)
    return found[1]


def check_disk(data, seconds):
    """Refuses a place in memory, and one with too little room."""
    if filesystem(data) in NO_DISK:
        raise Failed(f"{data} is in memory, where an fsync costs nothing: choose --data on a disk")
    # 200 MB/s at three replicas, and what is written to warm up.
    needed = int(seconds * 0.6e9 + 6e9)
    free = shutil.disk_usage(data).free
    if free < needed:
        raise Failed(f"{data} has {free / 1e9:.0f} GB free, a run may need {needed / 1e9:.0f}")


def flush_caches():
    """Writes back what was written so far: who comes next is not to pay for it."""
    run_tool(["sync"], 300)
