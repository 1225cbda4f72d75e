# SPDX-License-Identifier: GPL-2.0-only
"""What is said when there is nothing to build for, or with."""

import os
import pathlib
import shutil
import subprocess
import tempfile

# What kernel/build uses before it has found a compiler, and what it asks for.
PROGRAMS = ("bash cat cut dirname env id mktemp paste sed sort "
            "ld objcopy objdump addr2line c++filt ar nm cc python3").split()


def unsaid(command, environment, texts):
    """Runs what must fail, and returns what it does not say of `texts`."""
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    problems = [f"does not say: {text}" for text in texts if text not in ended.stderr]
    if ended.returncode != 2:
        problems.append(f"its exit status is {ended.returncode}")
    return [*problems, *ended.stderr.splitlines()] if problems else []


def without_headers(here):
    """A directory that is no kernel's."""
    with tempfile.TemporaryDirectory() as empty:
        return unsaid([here / "module", "--kernel-dir", empty], os.environ,
                      (f"no kernel to build for in {empty}", "linux-headers-", "make module KDIR="))


def without_library_source(here):
    """No compiler that will do, and no program to install one with."""
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        (work / "kernel").mkdir()
        (work / "bin").mkdir()
        shutil.copy(here / "build", work / "kernel" / "build")
        (work / "kernel" / "Cargo.toml").write_text('rust-version = "999.0"\n', encoding="ascii")
        for program in PROGRAMS:
            (work / "bin" / program).symlink_to(shutil.which(program))
        return unsaid([shutil.which("bash"), work / "kernel" / "build"],
                      {"PATH": str(work / "bin"), "HOME": str(work)},
                      ("Rust 999.0 or later", "rust-web-src", "rustup component add rust-src"))
