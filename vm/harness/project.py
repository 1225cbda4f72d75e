# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""What of the project goes into a guest: the module for its kernel, and the tools, static."""

import os
import subprocess

from harness import REPOSITORY, HarnessError, cache, packages, say

TARGET = "x86_64-unknown-linux-gnu"
BUILT = os.path.join(REPOSITORY, "target")
TARGET_32 = "i686-unknown-linux-gnu"
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
    directory = os.path.join(BUILT, "module", kernel.name)
    output = os.path.join(directory, "vexfs.ko")
    part = os.path.join(directory, "part.ko")
    command = [os.path.join(REPOSITORY, "kernel", "module"), "--kernel-dir", kernel.build,
               "--output", part]
    if kernel.uml:
        command += ["--arch", "um"]
    if kernel.debug:
        command += ["--kasan"]
    with cache.lock("module", BUILT):
        build(f"the module for {kernel.name}", command, os.path.join(directory, "build.log"))
        # Another run may be reading it.
        os.rename(part, output)
    return output


def programs():
    """The directory of the tools and the tests of a mount, without shared libraries: VEXFS_PROGRAMS says
    where they are, or they are built."""
    if "VEXFS_PROGRAMS" in os.environ:
        return os.environ["VEXFS_PROGRAMS"]
    build("the tools", ["cargo", "build", "--release", "--locked", "--package", "vexfs-cli",
                        "--package", "vexfs-guest", "--target", TARGET],
          os.path.join(BUILT, TARGET, "build.log"), static_environment())
    return os.path.join(BUILT, TARGET, "release")


def tests_32():
    """Builds the tests of a mount as a 32-bit program, with a library of its own, as compilers come
    without one for this target; returns its path."""
    packages.require("gcc-12", "/usr/lib32/libc.a", "/usr/lib/gcc/x86_64-linux-gnu/12/32/libgcc.a")
    found = subprocess.run([os.path.join(REPOSITORY, "kernel", "build"), "--print-toolchain"],
                           stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode != 0:
        raise HarnessError("there is no compiler with the source of its library")
    toolchain = os.path.join(found.stdout.strip(), "bin")
    environment = static_environment()
    environment.pop("RUSTUP_TOOLCHAIN", None)
    # What io-uring has of the kernel's structures is the same on this processor as on others.
    environment.update(RUSTC=os.path.join(toolchain, "rustc"),
                       RUSTC_BOOTSTRAP="1", CARGO_TARGET_I686_UNKNOWN_LINUX_GNU_LINKER="gcc-12",
                       RUSTFLAGS=f"{environment['RUSTFLAGS']} --cfg=io_uring_skip_arch_check")
    build("the tests as a 32-bit program",
          [os.path.join(toolchain, "cargo"), "build", "--locked", "--package",
           "vexfs-guest", "--bin", "vexfs-guest-tests", "--target", TARGET_32,
           "-Zbuild-std=std,panic_unwind", "-Zbuild-std-features=panic-unwind",
           # Its own loops take an emulated processor longer than a compiler takes with them; with less
           # than this they are made of what the library has of them, which is not optimised.
           "--config", "profile.dev.package.vexfs-guest.opt-level=2"],
          os.path.join(BUILT, TARGET_32, "build.log"), environment)
    return os.path.join(BUILT, TARGET_32, "debug", "vexfs-guest-tests")


def linked(program):
    """A program of this machine and the libraries that it is linked with, as pairs for --add."""
    path = packages.command(program)
    listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=True)
    needed = [word for line in listed.stdout.splitlines()
              if (word := next((w for w in line.split() if w.startswith("/")), None))]
    return [f"{file}:{file}" for file in (path, *needed)]


def published(name, version, optimized=False):
    """Installs a program that is published as a crate, static; returns its path."""
    directory = os.path.join(BUILT, "suites")
    environment = static_environment()
    if optimized:
        environment["CARGO_PROFILE_DEV_OPT_LEVEL"] = "1"
    with cache.lock("suites", BUILT):
        build(name, ["cargo", "install", "--quiet", "--locked", "--debug", "--root", directory, "--target",
                     TARGET, f"{name}@{version}"], os.path.join(directory, f"{name}.log"),
              environment)
    return os.path.join(directory, "bin", name)


def static_sleep():
    """Builds a program that sleeps under any name, as busybox does not; returns its path."""
    directory = os.path.join(BUILT, "suites")
    source = os.path.join(directory, "sleep.c")
    output = os.path.join(directory, "bin", "sleep")
    os.makedirs(os.path.dirname(output), exist_ok=True)
    with cache.lock("suites", BUILT):
        with open(source, "w", encoding="ascii") as file:
            file.write("#include <stdlib.h>\n#include <unistd.h>\n"
                       "int main(int count, char **words) { return count < 2 || "
                       "sleep(atoi(words[1])); }\n")
        build("sleep", ["cc", "-static", "-o", output, source], f"{output}.log")
    return output


def static_environment():
    """The environment in which cargo builds programs that need no shared libraries: soon, where they are
    not for release."""
    # An encoded setting would go before ours.
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET")}
    environment.update(CARGO_TARGET_DIR=BUILT, RUSTFLAGS="-C target-feature=+crt-static",
                       CARGO_PROFILE_RELEASE_STRIP="debuginfo", CARGO_PROFILE_DEV_OPT_LEVEL="0",
                       CARGO_PROFILE_DEV_DEBUG="none", CARGO_PROFILE_DEV_CODEGEN_UNITS="4",
                       CARGO_INCREMENTAL="0")
    return environment
