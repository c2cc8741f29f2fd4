"""One training process from its start to its end: CPU-seconds, time, peak memory."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

LOOK_EVERY = 0.2


@dataclass(frozen=True)
class Clock:
    """CPU-seconds of a process and its children so far, and seconds since it was started."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Used:
    """What a process that ended has used.

    Attributes:
        clock: Its CPU-seconds, user and system, with those of its children, as the kernel counts
            them when it ends; and how long it lived.
        peak_bytes: Largest resident memory of the process plus what its children held for
            themselves: a loader process shares most of its memory with the one that made it.
        exit_code: Of the process; negative: the signal that ended it.
    """

    clock: Clock
    peak_bytes: int
    exit_code: int


def watch(
    words: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    look: Callable[[Clock], None] = lambda clock: None,
) -> Used:
    """Run a command to its end; its output goes to ``out`` and ``err`` of a folder.

    Args:
        words: The command.
        environment: All of its environment variables.
        folder: Its current folder.
        look: Called some five times a second while it runs.
    """
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        started, peak = time.perf_counter(), 0
        child = subprocess.Popen(words, env=environment, cwd=folder, stdout=out, stderr=err)
        try:
            while True:
                pid, status, usage = os.wait4(child.pid, os.WNOHANG)
                wall = time.perf_counter() - started
                if pid:
                    break
                peak = max(peak, tree_bytes(child.pid))
                look(Clock(tree_cpu(child.pid), wall))
                time.sleep(LOOK_EVERY)
        except BaseException:
            stop(child)
            raise
    child.returncode = os.waitstatus_to_exitcode(status)
    return Used(Clock(usage.ru_utime + usage.ru_stime, wall), peak, child.returncode)


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a process that was started here, in good order if it can."""
    child.terminate()
    try:
        child.wait(timeout=20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants; empty when it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def tree_cpu(pid: int) -> float:
    """CPU-seconds of a process, its descendants, and those that it has already waited for."""
    total = 0.0
    for index, process in enumerate(tree(pid)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
        if index == 0:
            total += times.children_user + times.children_system
    return total


def tree_bytes(pid: int) -> int:
    """Largest resident memory of a process so far, plus what its descendants hold unshared now."""
    processes = tree(pid)
    if not processes:
        return 0
    return most_resident(processes[0]) + sum(unshared(child) for child in processes[1:])


def most_resident(process: psutil.Process) -> int:
    """As the kernel keeps it, else as it is now.

    Not ``ru_maxrss``: on Linux a child starts with that of its parent.
    """
    found = proc_fields(process.pid, "status").get("VmHWM")
    try:
        return found if found is not None else int(process.memory_info().rss)
    except psutil.Error:
        return 0


def unshared(process: psutil.Process) -> int:
    """Bytes that would be free if this process ended; its resident memory where that is unknown."""
    found = proc_fields(process.pid, "smaps_rollup")
    if "Private_Dirty" in found:
        return found["Private_Dirty"] + found.get("Private_Clean", 0)
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def proc_fields(pid: int, name: str) -> dict[str, int]:
    """The sizes in a file of ``/proc``, in bytes; empty where there is none."""
    try:
        lines = Path(f"/proc/{pid}/{name}").read_text("ascii", errors="replace").splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines if line.endswith(" kB"))
    return {field[0].rstrip(":"): int(field[-2]) * 1024 for field in fields}
