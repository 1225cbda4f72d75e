# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""Kernel modules of a stock kernel: those that a guest gets, with what modprobe needs to know."""

import lzma
import os
import subprocess

from harness import packages

# What a guest can load on demand, besides what these depend on and what is built in.
CHOSEN = ("crc32c_intel", "dm_delay", "dm_dust", "dm_flakey", "dm_log_writes", "dm_snapshot",
          "dm_thin_pool", "libcrc32c", "nfsd", "nfsv3", "nfsv4")


def prepare(root, release):
    """Makes unpacked modules ready: not compressed, for modprobe is slow, and with their index."""
    tree = os.path.join(root, "lib/modules", release)
    for directory, _, names in os.walk(tree):
        for name in names:
            if name.endswith(".ko.xz"):
                packed = os.path.join(directory, name)
                with lzma.open(packed) as source, open(packed[:-len(".xz")], "wb") as target:
                    target.write(source.read())
                os.remove(packed)
    subprocess.run([packages.command("depmod"), "-b", root, release], check=True)


def name_of(path):
    """The name of a module by its file: `kernel/fs/fuse/fuse.ko` is `fuse`."""
    return os.path.basename(path).split(".")[0].replace("-", "_")


def needed_by(module):
    """The names of the modules that a module file says it depends on."""
    result = subprocess.run([packages.command("modinfo"), "-F", "depends", module],
                            capture_output=True, text=True, check=True)
    return [name.replace("-", "_") for name in result.stdout.strip().split(",") if name]


def select(tree, wanted):
    """Which modules of a tree (`lib/modules/RELEASE`) the wanted names lead to.

    Returns the paths of their files, relative to the tree, and the texts of the index files that
    speak of these alone. A name that the tree does not have is built in.
    """
    dependencies = {}
    for line in _lines(tree, "modules.dep"):
        path, _, rest = line.partition(":")
        dependencies[path] = rest.split()
    by_name = {name_of(path): path for path in dependencies}
    files = set()
    for name in wanted:
        if name in by_name:
            files.add(by_name[name])
            files.update(dependencies[by_name[name]])
    names = {name_of(path) for path in files}
    index = {
        "modules.dep": "".join(f"{path}: {' '.join(dependencies[path])}\n"
                               for path in sorted(files)),
        "modules.alias": "".join(line + "\n" for line in _lines(tree, "modules.alias")
                                 if line.split()[-1] in names),
        "modules.builtin": "".join(line + "\n" for line in _lines(tree, "modules.builtin")),
    }
    return sorted(files), index


def _lines(tree, name):
    with open(os.path.join(tree, name), encoding="utf-8") as file:
        return [line for line in file.read().splitlines() if not line.startswith("#")]
