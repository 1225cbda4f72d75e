# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""What of the project goes into a guest: the module for its kernel, and the tools, static."""

import os
import subprocess

from harness import REPOSITORY, HarnessError, cache, say

TARGET = "x86_64-unknown-linux-gnu"
QUIET_S = 3


def build(what, command, log, environment=None):
    """Runs a command that builds something; speaks of it only if it takes long or fails."""
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with open(log, "w", encoding="utf-8") as file:
        try:
            process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=file,
                                       stderr=file, stdin=subprocess.DEVNULL)
        except FileNotFoundError as error:
            raise HarnessError(f"{what} cannot be built: there is no {error.filename}") from error
        with process:
            try:
                process.wait(QUIET_S)
            except subprocess.TimeoutExpired:
                say(f"building {what}")
                process.wait()
    if process.returncode != 0:
        with open(log, encoding="utf-8", errors="replace") as file:
            tail = "".join(file.readlines()[-40:])
        raise HarnessError(f"{what} cannot be built (the log is {log}):\n{tail}")


def module(kernel):
    """Builds the module for a kernel, and returns its path."""
    directory = os.path.join(REPOSITORY, "target", "module", kernel.name)
    output = os.path.join(directory, "vexfs.ko")
    part = os.path.join(directory, "part.ko")
    command = [os.path.join(REPOSITORY, "kernel", "module"), "--kernel-dir", kernel.build,
               "--output", part]
    if kernel.uml:
        command += ["--arch", "um"]
    if kernel.debug:
        command += ["--kasan"]
    with cache.lock("module"):
        build(f"the module for {kernel.name}", command, os.path.join(directory, "build.log"))
        # Another run may be reading it.
        os.rename(part, output)
    return output


def tools():
    """Builds the tools without shared libraries, and returns the path of the one program."""
    directory = os.path.join(REPOSITORY, "target", "static")
    # An encoded setting would go before ours.
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET")}
    environment.update(CARGO_TARGET_DIR=directory, RUSTFLAGS="-C target-feature=+crt-static",
                       CARGO_PROFILE_RELEASE_STRIP="debuginfo")
    build("the tools", ["cargo", "build", "--release", "--locked", "--package", "vexfs-cli",
                        "--target", TARGET], os.path.join(directory, "build.log"), environment)
    return os.path.join(directory, TARGET, "release", "vexfs")
