# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""The host process that runs a guest: QEMU for a stock kernel, the kernel itself when it is UML."""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import tempfile
import tty
from dataclasses import dataclass

from harness import HarnessError, kernels, packages

DISKS_MAX = 16
CPUS_MAX = 16

# A kernel that has failed ends at once, says all there is to say, and lets the guest write to its
# log as much as it likes.
PARAMETERS = ("rdinit=/vm/init", "panic=-1", "oops=panic", "hung_task_panic=1", "ignore_loglevel",
              "printk.devkmsg=on")
# Besides the checks, this keeps freed and allocated objects out of per-CPU arrays, whose stale
# pointers would hide leaks from kmemleak.
PARAMETERS_DEBUG = ("slab_debug=F",)


@dataclass
class Machine:
    """A running guest: its process, its kernel log (the process's output) and its channel."""

    process: subprocess.Popen
    log: int    # a file descriptor
    channel: socket.socket

    def kill(self):
        """Ends the guest, with all its processes."""
        if self.process.returncode is not None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def default_mem_mib(is_uml):
    """The memory a guest has unless told otherwise."""
    return 1024 if is_uml else 512


def cpus_max(is_uml):
    """How many processors a guest can have."""
    return kernels.UML_CPUS_MAX if is_uml else CPUS_MAX


def channel_device(kernel, terminal):
    """The device of the channel in the guest, or a pattern for it.

    QEMU's console drops what its reader does not take at once; a person does not mind, a test
    does, so it gets a port, which waits.
    """
    if kernel.uml:
        return "/dev/ttyS0"
    return "/dev/hvc0" if terminal else "/dev/vport*p1"


def start(kernel, initramfs, disks, cpus, mem_mib, terminal, parameters, work):
    """Starts a guest whose temporary files are in the directory `work`."""
    parameters = (*PARAMETERS, *(PARAMETERS_DEBUG if kernel.debug else ()), *parameters)
    images = []
    for number, disk in enumerate(disks):
        # By a link, as the path may have characters that mean something on the command line.
        image = os.path.join(work, f"disk{number}")
        os.symlink(os.path.abspath(disk), image)
        images.append(image)
    channel, their_channel = socket.socketpair()
    # A terminal, as user-mode Linux would hold back what it writes to a pipe before its console is
    # up, and lose it in a panic.
    log, their_log = os.openpty()
    tty.setraw(their_log)
    with their_channel, open(their_log, "wb"):
        command = (uml if kernel.uml else qemu)(
            kernel, initramfs, images, cpus, mem_mib, terminal, their_channel.fileno(), parameters,
            work)
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=their_log, stderr=their_log,
                pass_fds=[their_channel.fileno()], start_new_session=True, cwd=work,
                env=dict(os.environ, TMPDIR=memory_directory(mem_mib)), preexec_fn=die_with_parent)
        except OSError as error:
            raise HarnessError(f"{command[0]} cannot be run: {error.strerror}") from error
    channel.setblocking(False)
    os.set_blocking(log, False)
    return Machine(process, log, channel)


def uml(kernel, initramfs, images, cpus, mem_mib, _terminal, channel, parameters, work):
    """The command line of user-mode Linux."""
    disks = [f"ubd{number}d={image}" for number, image in enumerate(images)]
    return [kernel.image, f"mem={mem_mib}M", f"ncpus={cpus}", "seccomp=on", f"initrd={initramfs}",
            f"uml_dir={work}/", "umid=guest", "con=null", "con0=fd:1", "ssl=null",
            f"ssl0=fd:{channel}", "earlyprintk", *disks, *parameters]


def qemu(kernel, initramfs, images, cpus, mem_mib, terminal, channel, parameters, _work):
    """The command line of QEMU, which emulates the processor in software."""
    disks = []
    for number, image in enumerate(images):
        disks += ["-drive", f"if=none,id=disk{number},file={image},format=raw,cache=unsafe,"
                            "discard=unmap,detect-zeroes=off",
                  "-device", f"virtio-blk-pci,drive=disk{number}"]
    port = "virtconsole" if terminal else "virtserialport"
    return [packages.command("qemu-system-x86_64"), "-nodefaults", "-no-user-config", "-no-reboot",
            "-display", "none", "-accel", "tcg,thread=multi", "-cpu", "max",
            "-m", str(mem_mib), "-smp", str(cpus), "-kernel", kernel.image, "-initrd", initramfs,
            "-append", " ".join(("console=ttyS0", *parameters)), "-serial", "stdio",
            "-chardev", f"socket,id=channel,fd={channel}", "-device", "virtio-serial-pci",
            "-device", f"{port},chardev=channel", *disks]


def memory_directory(mem_mib):
    """Where user-mode Linux keeps its memory: a file in memory, if there is room for it."""
    shared = "/dev/shm"
    if os.access(shared, os.W_OK):
        information = os.statvfs(shared)
        if information.f_bavail * information.f_frsize >= mem_mib << 20:
            return shared
    return tempfile.gettempdir()


def die_with_parent():
    """Called in the new process: it shall not survive this one, and leaves no core file."""
    set_death_signal = 1
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
