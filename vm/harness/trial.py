# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""Tests that are runs of vm/run: their disks, the programs that they need, and how many passed."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile

from harness import REPOSITORY, machine, project

# What goes into memory must leave room for other guests.
DISKS_MIB = 4096


class Trial:
    """A directory for disks, in memory if there is room, and counts."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.programs = project.programs()
        self.passed = self.failed = 0

    @contextlib.contextmanager
    def directory(self):
        """A directory, which is removed afterwards."""
        work = tempfile.mkdtemp(prefix="vexfs-trial-", dir=machine.memory_directory(DISKS_MIB))
        try:
            yield work
        finally:
            shutil.rmtree(work)

    def command(self, script, disks=(), options=(), smp=2, timeout_s=300):
        """The command line of a guest that runs a shell's text, with the tests' programs."""
        return [os.path.join(REPOSITORY, "vm", "run"), "--kernel", self.kernel,
                "--smp", str(smp), "--timeout", str(timeout_s),
                "--add", f"{self.programs}/vexfs-guest-stress:/usr/bin/",
                *(part for disk in disks for part in ("--disk", disk)), *options,
                "--", "sh", "-c", script]

    def counted(self, name, script, timeout_s=300, **more):
        """Runs a script that ends with a line `N passed, N failed`, and counts what it says."""
        command = self.command(script, timeout_s=timeout_s, **more)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                              text=True, errors="replace") as process:
            last = ""
            for line in process.stdout:
                last = line
                # Indented, so that its counts are not taken for those of all.
                sys.stdout.write(f"  {line}")
                sys.stdout.flush()
        words = last.replace(",", "").split()
        if len(words) == 4 and words[1::2] == ["passed", "failed"]:
            failed = int(words[2])
            self.passed += int(words[0])
            # What failed may not be among what it counted.
            self.failed += failed or int(process.returncode != 0)
        else:
            self.failed += 1
        if process.returncode != 0:
            print(f"FAILED  {name}: exit status {process.returncode}", flush=True)

    def count(self, name, reason=None):
        """Counts one test, which failed if there is a reason."""
        if reason is None:
            self.passed += 1
            print(f"ok      {name}", flush=True)
        else:
            self.failed += 1
            print(f"FAILED  {name}: {reason}", flush=True)

    def finish(self):
        """Prints the counts and returns the exit status."""
        print(f"{self.passed} passed, {self.failed} failed")
        return int(self.failed > 0)


def disk(directory, name, mib):
    """Makes a disk of zeros, and returns its path."""
    path = os.path.join(directory, name)
    with open(path, "wb") as file:
        file.truncate(mib << 20)
    return path
