"""Processes that a run starts, and ends by their own ids."""

import ctypes
import os
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

POLL_S = 0.05
# How much of a log's end an error shows.
TAIL_BYTES = 1500
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1

# Loaded before any fork: the child of a fork must not load libraries.
LIBC = ctypes.CDLL(None)


class Failed(Exception):
    """A server, a load or a tool failed; the message says which and how."""


def die_with_parent():
    """Runs in a new process: the kernel kills it when this script dies in whatever way."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """One process, whose stderr (and stdout, unless it is read) goes to a file."""

    def __init__(self, command, log, env=None, cwd=None, read_stdout=False):
        self.name = log.stem
        self.log = log
        with open(log, "ab") as sink:
            self.child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if read_stdout else sink,
                stderr=sink,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                # Ctrl-C reaches this script alone, which ends the others in order.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self.pending = b""

    @property
    def pid(self):
        """The id of the process."""
        return self.child.pid

    def running(self):
        """Whether it has not ended."""
        return self.child.poll() is None

    def kill(self):
        """Ends it at once, as a crash would."""
        self.child.kill()
        self.child.wait(30)

    def stop(self, within):
        """Asks it to end, and kills it if it has not in time."""
        if self.running():
            self.child.terminate()
            try:
                self.child.wait(within)
            except subprocess.TimeoutExpired:
                self.kill()
        if self.child.stdout:
            self.child.stdout.close()

    def line(self, deadline):
        """The next line of stdout, or None at its end."""
        descriptor = self.child.stdout.fileno()
        while b"\n" not in self.pending:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failed(f"{self.name} said nothing in time: {self.tail()}")
            if not select.select([descriptor], [], [], left)[0]:
                continue
            read = os.read(descriptor, 1 << 16)
            if not read:
                return None
            self.pending += read
        line, self.pending = self.pending.split(b"\n", 1)
        return line.decode()

    def tail(self):
        """The end of what it wrote to its log."""
        with open(self.log, "rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - TAIL_BYTES))
            return log.read().decode(errors="replace").strip() or "(its log is empty)"

    def wait_port(self, port, within):
        """Waits until it listens."""
        deadline = time.monotonic() + within
        while not listens(port):
            if not self.running():
                raise Failed(f"{self.name} ended with {self.child.returncode}: {self.tail()}")
            if time.monotonic() > deadline:
                raise Failed(f"{self.name} does not listen after {within} s: {self.tail()}")
            time.sleep(POLL_S)


def listens(port):
    """Whether somebody listens on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def free_ports(count):
    """Ports that nobody listens on. All are held until all are found, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def run_tool(command, within, env=None, cwd=None):
    """Runs a tool to its end and gives what it printed."""
    words = [str(word) for word in command]
    name = Path(words[0]).name
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=within, cwd=cwd,
            stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})},
            preexec_fn=die_with_parent,
        )
    except FileNotFoundError:
        raise Failed(f"{name} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{name} took more than {within} s") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-TAIL_BYTES:]
        raise Failed(f"{name} ended with {done.returncode}: {said}")
    return done.stdout


def cpu_seconds(pid):
    """CPU time that a process has used, all its threads together."""
    # The name in parentheses may hold spaces; the fields after it start with the third.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def resident_mib(pid):
    """Memory that a process has in RAM."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise Failed(f"process {pid} has no memory")
