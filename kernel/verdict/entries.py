# SPDX-License-Identifier: GPL-2.0-only
"""Whether the object holds the whole core: every public function must be called by an entry point,
or the linker drops it and nothing here is shown about it."""

import re

# Public functions that only user-space hosts call, each with the reason.
USER_SPACE_ONLY = {
    "FileSystem::orphans": "tests and tools list them, the kernel reaps them",
    "Error::is_damage": "fsck.vexfs tells damage from refusals by it",
    "FileSystem::dump": "vexfs dump shows the metadata to developers",
    "FileSystem::format": "mkfs.vexfs makes file systems, the kernel does not",
}


def exported_types(library):
    """Names in the `pub use` lines of a crate's lib.rs."""
    names = set()
    for group in re.findall(r"^pub use ([^;]+);", library, re.MULTILINE):
        names.update(re.findall(r"\b[A-Z]\w+", group))
    return names


def public_functions(crate):
    """(type, function) for each `pub fn` in an inherent `impl` of a type that the crate exports."""
    types = exported_types((crate / "src" / "lib.rs").read_text())
    for path in sorted((crate / "src").rglob("*.rs")):
        current = None
        for line in path.read_text().splitlines():
            block = re.match(r"impl(?:<.*?>)? (\w+)", line)
            if block:
                current = block.group(1) if " for " not in line else None
            elif line.startswith("}"):
                current = None
            function = re.match(r"    pub (?:const |unsafe )*fn (\w+)", line)
            if function and current in types:
                yield current, function.group(1)


def unreached(kernel):
    """The public functions of the core that no entry point reaches: those of `FileSystem` must be
    named in the kernel crate, those of the other types there or within the core itself."""
    crate = kernel.parent / "core"
    functions = sorted(set(public_functions(crate)))
    if not any(owner == "FileSystem" for owner, _ in functions):
        return ["no public function of FileSystem found in core/src: is this reading it right?"]
    entries = "\n".join(path.read_text() for path in sorted((kernel / "src").rglob("*.rs")))
    core = "\n".join(path.read_text() for path in sorted((crate / "src").rglob("*.rs"))
                     if not path.stem.endswith("tests"))
    return [f"{owner}::{name}: no entry point calls it" for owner, name in functions
            if f"{owner}::{name}" not in USER_SPACE_ONLY
            and not re.search(rf"(\.|::){name}\b", entries)
            and (owner == "FileSystem" or not re.search(rf"(\.|::){name}\b", core))]
