# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""The cache directory, outside the checkout: what was fetched and built, and locks on it.

A thing in the cache is whole or absent: it is made under another name and renamed when it is done,
or has a stamp that is written last.
"""

import contextlib
import fcntl
import os
import shutil

from harness import say


def path(*parts):
    """A path below the cache directory."""
    root = os.environ.get("VEXFS_CACHE")
    if not root:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        root = os.path.join(base, "vexfs")
    return os.path.join(os.path.abspath(root), *parts)


@contextlib.contextmanager
def lock(name, directory=None):
    """Holds the lock of that name against every other process that uses this cache, or the
    directory that is named instead.

    Gives a file descriptor: a process that inherits it goes on holding the lock until it ends.
    """
    directory = os.path.join(directory or path(), "locks")
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, name), "a", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that prepares {name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


@contextlib.contextmanager
def new_directory(final):
    """Gives an empty directory that becomes `final` if the block ends without an exception."""
    part = final + ".part"
    shutil.rmtree(part, ignore_errors=True)
    os.makedirs(part)
    yield part
    shutil.rmtree(final, ignore_errors=True)
    os.rename(part, final)


def read_stamp(file):
    """The text of a stamp, or None when what it stands for is not there or not whole."""
    try:
        with open(file, encoding="utf-8") as stamp:
            return stamp.read()
    except FileNotFoundError:
        return None


def write_stamp(file, text):
    """Declares the thing that the stamp stands for whole."""
    part = file + ".part"
    with open(part, "w", encoding="utf-8") as stamp:
        stamp.write(text)
    os.rename(part, file)
