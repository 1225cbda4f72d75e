# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""The command lines of vm/run and vm/shell."""

import argparse
import os
import stat

from harness import guest, kernels, machine

EPILOG = """\
exit status:
  that of the command, or
  124  the guest has not ended in time
  125  the kernel log tells of a problem, the module cannot be loaded or unloaded, the guest ended
       before the command, or the harness cannot do what was asked; the kernel log is on stderr
  2    the command line is wrong

Kernels that are missing are fetched or built first (see vm/kernels).
"""


def parse(program, description, shell):
    """Reads the command line and returns what it asks for; wrong use ends the program with 2."""
    parser = argparse.ArgumentParser(
        prog=program, description=description, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        usage=f"{program} [OPTION]..." + ("" if shell else " -- COMMAND [ARGUMENT]..."))
    add = parser.add_argument
    add("--kernel", metavar="NAME", default="uml", choices=list(kernels.KERNELS),
        help=", ".join(kernels.KERNELS) + " (default: uml)")
    add("--smp", metavar="N", type=positive, default=1, help="processors (default: 1)")
    add("--mem", metavar="MIB", type=positive, help="memory (default: 512, 1024 for uml*)")
    add("--add", metavar="HOST:GUEST", type=addition, action="append", default=[],
        help="copy a file or directory of this machine to a path in the guest; the file goes into "
             "GUEST if that ends with /")
    add("--root", metavar="DIR", type=directory, help="lay what is in DIR under / of the guest")
    add("--disk", metavar="FILE", type=disk, action="append", default=[],
        help="an image file or block device: /dev/disk0 in the guest, the next /dev/disk1, ...; "
             "the guest writes to it")
    add("--append", metavar="WORDS", action="append", default=[],
        help="parameters of the kernel besides the harness's own")
    add("--no-module", action="store_true", help="without the module and the project's tools")
    add("--log", metavar="FILE", help="write the kernel log to FILE")
    add("--verbose", action="store_true", help="say how long booting, running and ending took")
    if shell:
        parser.set_defaults(timeout=None, command=None)
    else:
        add("--timeout", metavar="S", type=positive, default=600,
            help="seconds until the guest must have ended (default: 600)")
        add("command", metavar="COMMAND", nargs="+",
            help="what to run as root, in /root; not a shell's text, so use sh -c '...' for that. "
                 "Its standard input is empty, its errors come with its output")
    options = parser.parse_args()
    uml = options.kernel.startswith("uml")
    if options.smp > machine.cpus_max(uml):
        parser.error(f"--smp: {options.kernel} has at most {machine.cpus_max(uml)} processors")
    if len(options.disk) > machine.DISKS_MAX:
        parser.error(f"--disk: at most {machine.DISKS_MAX}")
    if options.log is not None and not os.path.isdir(os.path.dirname(options.log) or "."):
        parser.error(f"--log: there is no directory {os.path.dirname(options.log)}")
    return guest.Request(
        kernel=kernels.ensure(options.kernel), command=options.command, cpus=options.smp,
        mem_mib=options.mem or machine.default_mem_mib(uml), disks=options.disk, adds=options.add,
        root=options.root, parameters=" ".join(options.append).split(), module=not options.no_module, timeout_s=options.timeout,
        log_file=options.log, verbose=options.verbose)


def positive(text):
    """A whole number from 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def addition(text):
    """A pair of paths of --add."""
    host, colon, guest_path = text.rpartition(":")
    if not colon or not host or not guest_path.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:/GUEST/PATH")
    if not os.path.exists(host):
        raise argparse.ArgumentTypeError(f"there is no {host}")
    if guest_path.endswith("/") and not os.path.isdir(host):
        guest_path += os.path.basename(host)
    return host, guest_path


def directory(text):
    """A directory of this machine."""
    if not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"there is no directory {text}")
    return text


def disk(text):
    """An image file or a block device that can be written."""
    if not os.path.exists(text):
        raise argparse.ArgumentTypeError(f"there is no {text} (truncate -s 256M {text} makes one)")
    mode = os.stat(text).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise argparse.ArgumentTypeError(f"{text} is neither a file nor a block device")
    if not os.access(text, os.R_OK | os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be read and written")
    return text
