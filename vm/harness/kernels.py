# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""The kernels that guests run: where they are, and how they come into the cache.

Two are stock kernels of Debian, unpacked from its packages. Two are user-mode Linux, built from the
source that Debian packages with the configuration in vm/config.
"""

import glob
import hashlib
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass

from harness import REPOSITORY, HarnessError, cache, modules, packages, say

SOURCE_PACKAGE = "linux-source-7.3"
UML_CPUS_MAX = 4  # CONFIG_NR_CPUS
CONFIG = os.path.join(REPOSITORY, "vm", "config")
PATCHES = sorted(glob.glob(os.path.join(CONFIG, "*.patch")))


@dataclass(frozen=True)
class Kernel:
    """A kernel that is in the cache."""

    name: str
    release: str        # as uname -r prints it
    image: str          # what is booted: a bzImage, or the program that user-mode Linux is
    build: str          # the directory that modules are built against
    modules: str | None = None  # its `lib/modules/RELEASE`, if it has modules
    uml: bool = False
    debug: bool = False  # has KASAN, lockdep and kmemleak


def ensure(name):
    """The kernel of that name; fetches and builds what is missing."""
    return KERNELS[name](name)


# Debian's kernels

def debian(name, image, headers):
    """A stock kernel, by the names of the metapackages for it and its headers."""
    packages.require("make", "gcc-12", "ld", "depmod", "qemu-system-x86_64",
                     "/usr/lib/x86_64-linux-gnu/libelf.so.1")
    home = cache.path("kernels", name)
    with cache.lock(name):
        if not os.path.isdir(home):
            say(f"fetching the kernel {name} into {home}")
            archive = packages.Archive()
            wanted = archive.closure([image, headers],
                                     r"linux-(image|headers|kbuild)-[0-9].*(?<!-unsigned)")
            with cache.new_directory(home) as part:
                archive.unpack(wanted, part)
                release, = os.listdir(os.path.join(part, "lib/modules"))
                modules.prepare(part, release)
                relocate(part, release)
    release, = os.listdir(os.path.join(home, "lib/modules"))
    return Kernel(name, release, os.path.join(home, "boot", f"vmlinuz-{release}"),
                  os.path.join(home, "usr/src", f"linux-headers-{release}"),
                  modules=os.path.join(home, "lib/modules", release))


def relocate(root, release):
    """Lets modules be built against unpacked headers, which expect to be in /usr/src."""
    makefile = os.path.join(root, "usr/src", f"linux-headers-{release}", "Makefile")
    with open(makefile, encoding="utf-8") as file:
        text = file.read()
    parent = "$(dir $(realpath $(lastword $(MAKEFILE_LIST)))).."
    with open(makefile, "w", encoding="utf-8") as file:
        file.write(text.replace("include /usr/src", f"include {parent}"))
    for link in ("build", "source"):
        path = os.path.join(root, "lib/modules", release, link)
        target = os.path.basename(os.readlink(path))
        os.remove(path)
        os.symlink(os.path.join("../../../usr/src", target), path)


# User-mode Linux

def uml(name, fragments, debug=False):
    """User-mode Linux with the configuration that the fragments add up to."""
    packages.require("bc", "bison", "flex", "gcc", "ld", "make", "patch", "xz",
                     "/usr/include/stdio.h")
    home = cache.path("kernels", name)
    settings = merged(fragments)
    with cache.lock(name) as lock:
        source, version = fetched_source()
        key = build_key(version, settings)
        stamp = os.path.join(home, "vexfs.key")
        if cache.read_stamp(stamp) != key:
            if os.path.exists(stamp):
                os.remove(stamp)
            build_uml(name, source, home, settings, lock)
            cache.write_stamp(stamp, key)
    with open(os.path.join(home, "include/config/kernel.release"), encoding="ascii") as file:
        release = file.read().strip()
    return Kernel(name, release, os.path.join(home, "linux"), home, uml=True, debug=debug)


def fetched_source():
    """The directory of the kernel's source with our patches, and what tells its version."""
    home = cache.path("source", SOURCE_PACKAGE)
    stamp = os.path.join(home, "vexfs.version")
    patches = digest(PATCHES)
    with cache.lock("source"):
        version = cache.read_stamp(stamp)
        if version is None or not version.endswith(patches):
            say(f"fetching {SOURCE_PACKAGE} (170 MB, 2 GB unpacked) into {home}")
            archive = packages.Archive()
            version = f"{archive.version(SOURCE_PACKAGE)} {patches}"
            with cache.new_directory(home) as part:
                package = part + ".package"
                try:
                    archive.unpack([SOURCE_PACKAGE], package)
                    tarball, = glob.glob(os.path.join(package, "usr/src/linux-source-*.tar.xz"))
                    subprocess.run(["tar", "-xf", tarball, "-C", part, "--strip-components=1",
                                    "--no-same-owner"], check=True)
                finally:
                    shutil.rmtree(package, ignore_errors=True)
                for patch in PATCHES:
                    subprocess.run(["patch", "-s", "-p1", "-d", part, "-i", patch], check=True)
                cache.write_stamp(os.path.join(part, "vexfs.version"), version)
    return home, version


def digest(files):
    """Tells one content of some files from another."""
    content = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            content.update(file.read())
    return content.hexdigest()[:16]


def merged(fragments):
    """What the fragments set, as lines of a .config by symbol; of two settings the later holds."""
    settings = {}
    for fragment in fragments:
        with open(os.path.join(CONFIG, fragment), encoding="ascii") as file:
            for line in file.read().splitlines():
                match = re.match(r"(?:# )?(CONFIG_\w+)(?:=| is not set$)", line)
                if match:
                    settings[match.group(1)] = line
                elif line and not line.startswith("#"):
                    raise HarnessError(f"vm/config/{fragment}: not a setting: {line}")
    return settings


def build_key(version, settings):
    """Tells one build from another: a source, a configuration, a compiler."""
    compiler = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=True)
    text = "\n".join([version, compiler.stdout.splitlines()[0], *settings.values()])
    return hashlib.sha256(text.encode()).hexdigest()


def build_uml(name, source, home, settings, lock):
    """Builds the kernel in `home`, on what an earlier build of the same source left there."""
    origin = os.path.join(home, "vexfs.source")
    version = cache.read_stamp(os.path.join(source, "vexfs.version"))
    if cache.read_stamp(origin) != version:
        shutil.rmtree(home, ignore_errors=True)
    os.makedirs(home, exist_ok=True)
    cache.write_stamp(origin, version)
    fragment = os.path.join(home, "vexfs.config")
    cache.write_stamp(fragment, "".join(line + "\n" for line in settings.values()))
    log = os.path.join(home, "vexfs.log")
    say(f"building the kernel {name} (about 3 minutes on two cores; the log is {log})")
    start = time.monotonic()
    with open(log, "w", encoding="utf-8") as file:
        make(source, home, file, lock, "allnoconfig", f"KCONFIG_ALLCONFIG={fragment}")
        check_config(home, settings)
        make(source, home, file, lock, "linux", "modules", f"-j{os.cpu_count()}")
    say(f"built {name} in {time.monotonic() - start:.0f} s")


def make(source, home, log, lock, *arguments):
    """Runs the kernel's make, free of settings that are meant for a make around this program.

    It holds the lock too, as it may outlive this program for a moment.
    """
    foreign = re.compile(r"(MAKE.*|MFLAGS|GNUMAKEFLAGS|KBUILD_.*|KCONFIG_.*|K?[ACR].*FLAGS|"
                         r"LLVM|CROSS_COMPILE|ARCH|SUBARCH|O|M|V|W|C)")
    environment = {key: value for key, value in os.environ.items() if not foreign.fullmatch(key)}
    result = subprocess.run(["make", "-s", "-C", source, "ARCH=um", f"O={home}", *arguments],
                            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                            pass_fds=[lock], check=False)
    if result.returncode != 0:
        with open(log.name, encoding="utf-8", errors="replace") as file:
            tail = "".join(file.readlines()[-20:])
        raise HarnessError(f"building the kernel failed (the log is {log.name}):\n{tail}")


def check_config(home, settings):
    """Fails on a setting that Kconfig did not take: misspelt, superseded, or with a need unmet."""
    with open(os.path.join(home, ".config"), encoding="utf-8") as file:
        taken = set(file.read().splitlines())
    # A symbol that is off may also be absent.
    lost = [line for line in settings.values() if line not in taken and not line.startswith("#")]
    if lost:
        raise HarnessError("settings in vm/config that Kconfig does not take:\n" + "\n".join(lost))


KERNELS = {
    "debian-6.1": lambda name: debian(
        name, "linux-image-cloud-amd64", "linux-headers-cloud-amd64"),
    "debian-6.12": lambda name: debian(
        name, "linux-image-6.12-cloud-amd64", "linux-headers-6.12-cloud-amd64"),
    "uml": lambda name: uml(name, ["uml.config"]),
    "uml-debug": lambda name: uml(name, ["uml.config", "debug.config"], debug=True),
}
