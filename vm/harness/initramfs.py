# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""The guest's first file tree, and the archive that the kernel unpacks it from.

The format is cpio's `newc`, as in the kernel's Documentation/driver-api/early-userspace/
buffer-format.rst. Writing it here needs neither root nor cpio, as nothing is made on the host.
"""

import os
import shutil
import stat
from dataclasses import dataclass

from harness import HarnessError

SYMLINKS_MAX = 40
FILE_BYTES_MAX = (1 << 32) - 1


@dataclass
class Entry:
    """A file of any type. The content of a regular file is bytes, or the path it is read from."""

    mode: int
    content: bytes | str = b""
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    device: int = 0


class Tree:
    """Files by their path in the guest, without the leading slash."""

    def __init__(self):
        self.entries = {"": Entry(stat.S_IFDIR | 0o755)}

    def resolve(self, path, follow=False):
        """The path with the symbolic links on the way followed; the last one only on demand."""
        links = 0
        done, rest = "", [part for part in path.split("/") if part not in ("", ".")]
        while rest:
            part = rest.pop(0)
            if part == "..":
                done = os.path.dirname(done)
                continue
            step = f"{done}/{part}" if done else part
            entry = self.entries.get(step)
            if entry and stat.S_ISLNK(entry.mode) and (rest or follow):
                links += 1
                if links > SYMLINKS_MAX:
                    raise HarnessError(f"/{path}: too many symbolic links")
                target = os.fsdecode(entry.content)
                if target.startswith("/"):
                    done = ""
                rest[:0] = [name for name in target.split("/") if name not in ("", ".")]
            else:
                done = step
        return done

    def put(self, path, entry, replace=True):
        """Places an entry, with the directories above it, over what is there or only if nothing is.

        A directory placed over another merges with it, also through a symbolic link.
        """
        directory = stat.S_ISDIR(entry.mode)
        path = self.resolve(path, follow=directory)
        present = self.entries.get(path)
        if present is not None:
            if not replace:
                return
            if stat.S_ISDIR(present.mode) and not directory:
                raise HarnessError(f"/{path} would be a directory and a file")
        self.directory(os.path.dirname(path))
        self.entries[path] = entry

    def directory(self, path, mode=0o755):
        """Makes a directory, unless it is there."""
        path = self.resolve(path, follow=True)
        if path in self.entries:
            if not stat.S_ISDIR(self.entries[path].mode):
                raise HarnessError(f"/{path} would be a directory and a file")
        else:
            self.put(path, Entry(stat.S_IFDIR | mode))

    def text(self, path, text, mode=0o644, replace=True):
        """Places a file with this text."""
        self.put(path, Entry(stat.S_IFREG | mode, os.fsencode(text)), replace)

    def link(self, path, target, replace=True):
        """Places a symbolic link."""
        self.put(path, Entry(stat.S_IFLNK | 0o777, os.fsencode(target)), replace)

    def copy(self, host, path, mode=None):
        """Places a copy of a host's file, or of a directory with all that is below it.

        What belongs to whoever runs this belongs to root in the guest.
        """
        def unreadable(error):
            raise HarnessError(f"{error.filename} cannot be read") from error

        self._copy_one(host, path, os.stat(host), mode)
        if not os.path.isdir(host):
            return
        for directory, subdirectories, names in os.walk(host, onerror=unreadable):
            below = os.path.relpath(directory, host)
            for name in subdirectories + names:
                source = os.path.join(directory, name)
                information = os.lstat(source)
                if not stat.S_ISSOCK(information.st_mode):
                    self._copy_one(source, os.path.join(path, below, name), information)

    def _copy_one(self, host, path, information, mode=None):
        kind = stat.S_IFMT(information.st_mode)
        entry = Entry(
            kind | (stat.S_IMODE(information.st_mode) if mode is None else mode),
            uid=0 if information.st_uid == os.getuid() else information.st_uid,
            gid=0 if information.st_gid == os.getgid() else information.st_gid,
            mtime=int(information.st_mtime), device=information.st_rdev)
        if stat.S_ISLNK(kind):
            entry.content = os.fsencode(os.readlink(host))
        elif stat.S_ISREG(kind):
            if not os.access(host, os.R_OK):
                raise HarnessError(f"{host} cannot be read")
            if information.st_size > FILE_BYTES_MAX:
                raise HarnessError(f"{host} is too large for the guest's first file tree: "
                                   "put it on an image file and give that with --disk")
            entry.content = os.path.abspath(host)
        self.put(path, entry)

    def write(self, file):
        """Writes the archive to a file opened for writing bytes."""
        for inode, path in enumerate(sorted(self.entries), start=1):
            if path:
                write_entry(file, inode, path, self.entries[path])
        write_entry(file, 0, "TRAILER!!!", Entry(0))


def write_entry(file, inode, path, entry):
    """Writes one entry of a newc archive."""
    source = None
    if isinstance(entry.content, str):
        source = open(entry.content, "rb")
        size = os.fstat(source.fileno()).st_size
    else:
        size = len(entry.content)
    name = os.fsencode(path) + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (inode, entry.mode, entry.uid, entry.gid, links, entry.mtime & 0xffffffff, size, 0, 0,
              os.major(entry.device), os.minor(entry.device), len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    file.write(header + padding(len(header)))
    if source is None:
        file.write(entry.content)
    else:
        with source:
            start = file.tell()
            shutil.copyfileobj(source, file, 1 << 20)
            if file.tell() != start + size:
                raise HarnessError(f"{entry.content} changed while it was read")
    file.write(padding(size))


def padding(size):
    """What follows so many bytes up to a multiple of four."""
    return bytes(-size % 4)
