# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""A guest's life: it boots, its output comes through, its end is judged."""

import contextlib
import os
import secrets
import selectors
import sys
import tempfile
import termios
import time
import tty
from dataclasses import dataclass

from harness import STATUS_FAILED, STATUS_TIMEOUT, HarnessError, contents, log, machine, say

PROBLEMS_SHOWN_MAX = 10
KEY_TO_KILL = b"\x1d"  # Ctrl-]
END_OF_INPUT = b"\x04"  # what a terminal takes for it
DONE = "vexfs-vm: done"
# Any kernel boots in a few seconds.
BOOT_S_MAX = 120
# The archive and the files unpacked from it are in the guest's memory at once.
INITRAMFS_SHARE_MAX = 0.4


@dataclass
class Request:
    """What a guest shall be."""

    kernel: object
    command: list | None    # None is a shell for a person
    cpus: int
    mem_mib: int
    disks: list
    adds: list              # pairs of a host path and a guest path
    root: str | None
    parameters: list        # of the kernel
    module: bool
    timeout_s: float | None
    log_file: str | None
    verbose: bool


class Output:
    """What comes through the channel, told apart from what guest/init says there."""

    def __init__(self, marker):
        self.begin = f"{marker} begin".encode()
        self.end = f"{marker} end ".encode()
        self.held = b""
        self.begun = False
        self.status = None

    def feed(self, data):
        """Takes what came and returns what of it, and of what was held, is the command's."""
        if self.status is not None:
            return b""
        self.held += data
        if not self.begun:
            _, begin, rest = self.held.partition(self.begin)
            if not begin or b"\n" not in rest:
                return b""
            self.begun = True
            self.held = rest.partition(b"\n")[2]
        passed, end, rest = self.held.partition(self.end)
        if end:
            if b"\n" in rest:
                self.status = int(rest.partition(b"\n")[0])
                self.held = b""
            else:
                self.held = end + rest
            return passed
        # The end of what came may be the beginning of the marker.
        keep = next((size for size in range(min(len(self.end) - 1, len(passed)), 0, -1)
                     if self.end.startswith(passed[-size:])), 0)
        self.held = passed[len(passed) - keep:]
        return passed[:len(passed) - keep]

    def finish(self):
        """Returns what is held still, when nothing more will come."""
        held = self.held if self.begun else b""
        self.held = b""
        return held


class Life:
    """A running guest, from its start to its end."""

    def __init__(self, request, guest, output):
        self.request = request
        self.guest = guest
        self.output = output
        self.log = bytearray()
        self.selector = selectors.DefaultSelector()
        self.start = time.monotonic()
        self.moments = {}
        self.ended = False
        self.timed_out = False
        self.killed = False

    def run(self):
        """Passes everything on until the guest has ended."""
        self.selector.register(self.guest.log, selectors.EVENT_READ, self.read_log)
        self.selector.register(self.guest.channel, selectors.EVENT_READ, self.read_channel)
        if self.request.command is None:
            self.selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self.read_input)
        with open(os.pidfd_open(self.guest.process.pid), "rb") as process:
            self.selector.register(process, selectors.EVENT_READ, self.end)
            while not self.ended and not self.timed_out:
                for key, _ in self.selector.select(self.left_s()):
                    key.data()
                self.timed_out = not self.ended and self.left_s() == 0
        self.guest.kill()
        self.moment("ended")
        self.read_log()
        while self.read_channel():
            pass
        self.write(self.output.finish())

    def left_s(self):
        """The time that the guest still has, or None without a limit."""
        if self.request.timeout_s is None:
            return None
        limit_s = self.request.timeout_s
        if not self.output.begun and self.request.command is not None:
            limit_s = min(limit_s, BOOT_S_MAX)
        return max(0, self.start + limit_s - time.monotonic())

    def log_lines(self):
        """The kernel log so far."""
        return self.log.decode(errors="replace").replace("\r", "").splitlines()

    def never_booted(self):
        """Whether the virtual machine stopped before there was anything of ours in it."""
        return self.timed_out and not self.output.begun and \
            not any("vexfs: " in line for line in self.log_lines())  # what loading the module says

    def end(self):
        """Lets run return."""
        self.ended = True

    def moment(self, name):
        """Notes when something happened first."""
        self.moments.setdefault(name, time.monotonic() - self.start)

    def read_log(self):
        """Takes all that the kernel log has."""
        try:
            while data := os.read(self.guest.log, 1 << 16):
                self.log += data
        except BlockingIOError:
            return
        except OSError:  # how a terminal says that nobody has its other end
            pass
        self.forget(self.guest.log)

    def read_channel(self):
        """Takes what the channel has, passes the command's part on; returns if there was any."""
        try:
            data = self.guest.channel.recv(1 << 16)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            data = b""
        if not data:
            self.forget(self.guest.channel)
            return False
        self.write(self.output.feed(data))
        if self.output.begun:
            self.moment("begun")
        if self.output.status is not None and "answered" not in self.moments:
            self.moment("answered")
            self.send(b"\n")
        return True

    def write(self, data):
        """Passes on what the command has written."""
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def read_input(self):
        """Passes on what a person types."""
        data = os.read(sys.stdin.fileno(), 4096)
        if KEY_TO_KILL in data:
            self.killed = self.ended = True
        if not data:
            self.forget(sys.stdin.fileno())
        self.send(data or END_OF_INPUT)

    def send(self, data):
        """Writes to the guest; what it does not take while it does not read is lost."""
        try:
            self.guest.channel.send(data)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass

    def forget(self, file):
        """Stops waiting for a file that has ended."""
        if file in self.selector.get_map():
            self.selector.unregister(file)


def run(request):
    """Boots a guest, passes its output on, and returns the exit status of it all."""
    marker = "vexfs-vm-" + secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="vexfs-vm-") as work:
        image = os.path.join(work, "initramfs")
        tree = contents.file_tree(request, marker)
        with open(image, "wb") as file:
            tree.write(file)
        size_mib = os.path.getsize(image) >> 20
        if size_mib > request.mem_mib * INITRAMFS_SHARE_MAX:
            raise HarnessError(
                f"the guest's first file tree takes {size_mib} MiB, too much for {request.mem_mib} "
                f"MiB of memory: give it --mem {int(size_mib / INITRAMFS_SHARE_MAX) + 1}")
        life = live(request, image, work, marker)
        if life.never_booted():
            say(f"the guest has not booted after {BOOT_S_MAX} s and is started once more; its log was:")
            for line in life.log_lines():
                print("  " + line, file=sys.stderr)
            life = live(request, image, work, marker)
    return verdict(request, life)


def live(request, image, work, marker):
    """Has a guest live once."""
    guest = machine.start(request.kernel, image, request.disks, request.cpus, request.mem_mib,
                          request.command is None, request.parameters, work)
    life = Life(request, guest, Output(marker))
    try:
        with raw_terminal(request.command is None):
            life.run()
    finally:
        guest.kill()
    return life


@contextlib.contextmanager
def raw_terminal(wanted):
    """Lets keys that a person presses go to the guest as they are, if there is a person."""
    if not wanted or not sys.stdin.isatty():
        yield
        return
    saved = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)


def verdict(request, life):
    """Tells what went wrong, if anything did, and returns the exit status."""
    lines = life.log_lines()
    if request.log_file is not None:
        with open(request.log_file, "w", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))
    if request.verbose:
        report_times(request, life)
    if life.killed:
        say("the guest was ended by Ctrl-]")
        return STATUS_FAILED
    reasons = []
    if life.timed_out:
        what, limit_s = ("ended", request.timeout_s) if life.output.begun else ("booted", BOOT_S_MAX)
        reasons.append(f"the guest has not {what} after {min(limit_s, request.timeout_s):g} s")
    elif life.output.status is None:
        what = "before the command ended" if life.output.begun else "before the command was run"
        reasons.append(f"the guest ended {what}")
    elif not any(DONE in line for line in lines):
        reasons.append("the guest ended before it had unmounted and unloaded everything")
    problems = log.judge(lines)
    reasons += [f"kernel log, line {number}: {line}"
                for number, line in problems[:PROBLEMS_SHOWN_MAX]]
    if len(problems) > PROBLEMS_SHOWN_MAX:
        reasons.append(f"kernel log: {len(problems) - PROBLEMS_SHOWN_MAX} more such lines")
    if not reasons:
        return life.output.status
    sys.stdout.flush()
    say(f"the kernel log of {request.kernel.name}:")
    for line in lines:
        print("  " + line, file=sys.stderr)
    if life.output.status is not None:
        say(f"the command's exit status was {life.output.status}")
    for reason in reasons:
        say("FAILED: " + reason)
    return STATUS_TIMEOUT if life.timed_out else STATUS_FAILED


def report_times(request, life):
    """Says how long the parts of a guest's life took."""
    start = 0.0
    parts = []
    for part, moment in (("to boot", "begun"), ("to run", "answered"), ("to end", "ended")):
        if moment in life.moments:
            parts.append(f"{life.moments[moment] - start:.2f} s {part}")
            start = life.moments[moment]
    say(f"{request.kernel.name} took {', '.join(parts)}")
