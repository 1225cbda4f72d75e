# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""What a guest's first file tree holds: a small system, the project's module and tools, and what
the caller adds."""

import os
import shlex
import shutil
import subprocess

from harness import REPOSITORY, initramfs, machine, modules, packages, project

BUSYBOX = "/bin/busybox"
INIT = os.path.join(REPOSITORY, "vm", "guest", "init")

# Loaded before anything else: what the channel and the disks need, and what other kernels have
# built in.
BOOT_MODULES = ("virtio_pci", "virtio_console", "virtio_blk", "loop", "fuse", "dm_mod")

DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "lib": 0o755, "mnt": 0o755, "proc": 0o755,
    "root": 0o700, "run": 0o755, "sbin": 0o755, "sys": 0o755, "tmp": 0o1777, "usr/bin": 0o755,
    "usr/sbin": 0o755, "var": 0o755, "vm": 0o755,
}
TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
                  "user:x:1000:1000:user:/tmp:/bin/sh\n"
                  "nobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n",
    "etc/group": "root:x:0:\ntty:x:5:\nuser:x:1000:\nnogroup:x:65534:\n",
    "etc/profile": "PS1='vexfs:\\w\\$ '\n",
}


def file_tree(request, marker):
    """The first file tree of the guest that is asked for."""
    packages.require(BUSYBOX)
    tree = initramfs.Tree()
    if request.root is not None:
        tree.copy(request.root, "")
    add_system(tree)
    load = list(BOOT_MODULES)
    if request.module:
        load += modules.needed_by(add_project(tree, request.kernel))
    add_kernel_modules(tree, request.kernel, load)
    for host, guest in request.adds:
        tree.copy(host, guest)
    add_init(tree, request, marker, load)
    return tree


def add_system(tree):
    """Places a small system of busybox, where there is nothing yet."""
    for path, mode in DIRECTORIES.items():
        tree.directory(path, mode)
    for path, text in TEXTS.items():
        tree.text(path, text, replace=False)
    tree.link("etc/mtab", "/proc/mounts", replace=False)
    tree.link("bin/busybox", "/vm/busybox", replace=False)
    applets = subprocess.run([BUSYBOX, "--list-full"], capture_output=True, text=True, check=True)
    for path in applets.stdout.split():
        tree.link(path, "/bin/busybox", replace=False)


def add_project(tree, kernel):
    """Places the module and the tools; returns the module's path on the host."""
    module = project.module(kernel)
    tree.copy(module, "lib/vexfs.ko", mode=0o644)
    programs = project.programs()
    for name in ("vexfs", "vexfs-guest-tests"):
        tree.copy(os.path.join(programs, name), f"usr/bin/{name}", mode=0o755)
    for name in ("mkfs.vexfs", "fsck.vexfs"):
        tree.link(f"sbin/{name}", "/usr/bin/vexfs")
    return module


def add_kernel_modules(tree, kernel, needed):
    """Places the kernel's modules that are chosen or needed, so that modprobe loads them."""
    base = f"lib/modules/{kernel.release}"
    if kernel.modules is None:
        tree.text(f"{base}/modules.dep", "")
        tree.copy(os.path.join(kernel.build, "modules.builtin"), f"{base}/modules.builtin")
        return
    files, index = modules.select(kernel.modules, [*modules.CHOSEN, *needed])
    for path in files:
        tree.copy(os.path.join(kernel.modules, path), f"{base}/{path}")
    for name, text in index.items():
        tree.text(f"{base}/{name}", text)


def add_init(tree, request, marker, load):
    """Places the first process and what it is to know; guest/init says what each setting means."""
    kernel = request.kernel
    shell = request.command is None
    size = shutil.get_terminal_size()
    settings = {
        "CHANNEL": machine.channel_device(kernel, shell),
        "MARKER": marker,
        "DISKS": len(request.disks),
        "MODULES": " ".join(load) if kernel.modules else "",
        "MODULE": "yes" if request.module else "",
        "KMEMLEAK": "yes" if kernel.debug and not shell else "",
        "TERM": os.environ.get("TERM", "dumb"),
        "ROWS": size.lines,
        "COLUMNS": size.columns,
    }
    tree.text("vm/settings", "".join(f"{name}={shlex.quote(str(value))}\n"
                                     for name, value in settings.items()))
    tree.text("vm/command", f"set -- {shlex.join(request.command or [])}\n")
    tree.copy(INIT, "vm/init", mode=0o755)
    tree.copy(BUSYBOX, "vm/busybox", mode=0o755)
