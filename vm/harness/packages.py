# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""Debian packages: those that this machine lacks, and those that are unpacked into the cache.

Packages for the cache come through an apt state of our own, so that neither root nor the machine's
own package lists are needed. Its sources are derived from those that the machine is configured
with, for the suites that hold the kernels.
"""

import os
import re
import shutil
import subprocess
import tempfile

from harness import HarnessError, cache, say

# The release whose stock kernels are tested, and the suite that has the source of the newest.
RELEASE = "bookworm"
NEWEST = "trixie-backports"

# What a machine needs: how its presence is seen (a command, or a file), and the Debian package.
TOOLS = {
    "bc": "bc",
    "bison": "bison",
    "/bin/busybox": "busybox-static",
    "depmod": "kmod",
    "fio": "fio",
    "flex": "flex",
    "gcc": "gcc",
    "gcc-12": "gcc-12",
    "ld": "binutils",
    "make": "make",
    "mke2fs": "e2fsprogs",
    "mkfs.ext4": "e2fsprogs",
    "patch": "patch",
    "qemu-system-x86_64": "qemu-system-x86",
    "xz": "xz-utils",
    "/usr/include/stdio.h": "libc6-dev",
    "/usr/lib/x86_64-linux-gnu/libelf.so.1": "libelf1",
    "/usr/lib32/libc.a": "libc6-dev-i386",
    "/usr/lib/gcc/x86_64-linux-gnu/12/32/libgcc.a": "lib32gcc-12-dev",
}


def present(tool):
    """Whether the machine has a command or, when it is a path, a file."""
    return os.path.exists(tool) if tool.startswith("/") else command(tool) is not None


def command(name):
    """The path of a command, also of one that only root has on its PATH."""
    search = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    return shutil.which(name, path=search)


def require(*tools):
    """Installs the packages of the tools that are missing, or says which they are."""
    def missing():
        return sorted({TOOLS[tool] for tool in tools if not present(tool)})

    lacking = missing()
    if not lacking:
        return
    if os.geteuid() == 0 and command("apt-get"):
        say("installing " + " ".join(lacking))
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        with cache.lock("packages"):
            for step in (["update"], ["install", "-y", "--no-install-recommends", *lacking]):
                result = subprocess.run(["apt-get", "-q", *step], env=environment, text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, check=False)
        lacking = missing()
        if lacking:
            say("\n".join(result.stdout.splitlines()[-20:]))
    if lacking:
        raise HarnessError("missing, by Debian package: " + " ".join(lacking)
                           + " (apt-get install installs them; as root this is done by itself)")


def codename():
    """The name of the release that the machine runs."""
    with open("/etc/os-release", encoding="utf-8") as file:
        match = re.search(r"^VERSION_CODENAME=(\w+)", file.read(), re.MULTILINE)
    return match.group(1) if match else None


def sources():
    """The sources.list of the apt state in the cache."""
    result = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)",
         "Created-By: Packages"], capture_output=True, text=True, check=False)
    suites = {RELEASE, codename(), "stable", "testing", "unstable", "sid"}
    archive = security = None
    for line in result.stdout.splitlines():
        suite, component, uri = line.split(" ", 2)
        if component != "main":
            continue
        if suite.endswith("-security"):
            security = security or uri
        elif suite in suites:
            archive = archive or uri
    if archive is None:
        raise HarnessError("the kernels come from Debian's archive, and apt on this machine is "
                           "configured with no Debian suite of which it could be derived")
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    signed = f"[signed-by={keys}] " if os.path.exists(keys) else ""
    lines = [f"deb {signed}{archive} {RELEASE} main", f"deb {signed}{archive} {NEWEST} main"]
    if security is not None:
        lines.append(f"deb {signed}{security} {RELEASE}-security main")
    return "\n".join(lines) + "\n"


class Archive:
    """An apt state in the cache, with fresh package lists."""

    def __init__(self):
        if command("apt-get") is None or command("dpkg") is None:
            raise HarnessError("the kernels come as Debian packages: apt-get and dpkg are missing")
        state = cache.path("apt")
        for directory in ("lists/partial", "archives/partial"):
            os.makedirs(os.path.join(state, directory), exist_ok=True)
        source_list = os.path.join(state, "sources.list")
        cache.write_stamp(source_list, sources())
        self.options = [
            "-o", f"Dir::Etc::SourceList={source_list}", "-o", "Dir::Etc::SourceParts=/dev/null",
            "-o", f"Dir::State={state}/", "-o", f"Dir::Cache={state}/",
            "-o", "Dir::State::status=/dev/null", "-o", "APT::Sandbox::User="]
        self._apt("apt-get", "update", "--error-on=any")

    def _apt(self, tool, *arguments, directory=None):
        with cache.lock("apt"):
            result = subprocess.run([tool, *self.options, "-q", *arguments], cwd=directory,
                                    text=True, capture_output=True, stdin=subprocess.DEVNULL,
                                    check=False)
        if result.returncode != 0:
            raise HarnessError(f"{tool} {' '.join(arguments)} failed:\n{result.stderr.strip()}")
        return result.stdout

    def version(self, package):
        """The version of a package that would be unpacked."""
        text = self._apt("apt-cache", "show", "--no-all-versions", package)
        return re.search(r"^Version: (.*)$", text, re.MULTILINE).group(1)

    def closure(self, packages, wanted):
        """The packages and what they depend on, as far as the pattern `wanted` matches a name."""
        text = self._apt("apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests",
                         "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances",
                         *packages)
        names = {line for line in text.splitlines() if re.fullmatch(wanted, line)}
        return sorted(names)

    def unpack(self, packages, directory):
        """Downloads the packages and unpacks them below a directory."""
        with tempfile.TemporaryDirectory(dir=cache.path("apt")) as work:
            self._apt("apt-get", "download", *packages, directory=work)
            for name in sorted(os.listdir(work)):
                subprocess.run(["dpkg", "-x", os.path.join(work, name), directory], check=True)
