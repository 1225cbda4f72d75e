# SPDX-License-Identifier: GPL-2.0-only
"""Whether the object holds the whole core: every public function must be called by an entry point,
or the linker drops it and nothing here is shown about it."""

import re

# Public functions that only user-space hosts call, each with the reason.
USER_SPACE_ONLY = {
    "FileSystem::format": "mkfs.vexfs makes file systems, and its frame is over the limit",
}


def exported(crate):
    """Names in the `pub use` lines of a crate's lib.rs and of its public modules, and what those
    modules declare as public themselves."""
    library = (crate / "src" / "lib.rs").read_text()
    modules = [(crate / "src" / f"{name}.rs").read_text()
               for name in re.findall(r"^pub mod (\w+);", library, re.MULTILINE)]
    names = set()
    for text in [library, *modules]:
        for group in re.findall(r"^pub use ([^;]+);", text, re.MULTILINE):
            names.update(re.findall(r"\w+", group))
    for text in modules:
        names.update(re.findall(r"^pub (?:const |unsafe )*(?:fn|struct|enum) (\w+)", text,
                                re.MULTILINE))
    return names


def public_functions(crate):
    """(type, function) for each `pub fn` in an inherent `impl` of a type that the crate exports,
    and (None, function) for each exported function."""
    names = exported(crate)
    for path in sorted((crate / "src").rglob("*.rs")):
        current = None
        for line in path.read_text().splitlines():
            block = re.match(r" *impl(?:<.*?>)? (\w+)", line)
            if block:
                current = block.group(1) if " for " not in line else None
            elif line.startswith("}"):
                current = None
            function = re.match(r"( *)pub (?:const |unsafe )*fn (\w+)", line)
            if function and not function.group(1):
                if function.group(2) in names:
                    yield None, function.group(2)
            elif function and current in names:
                yield current, function.group(2)


def unreached(kernel):
    """The public functions of the core that no entry point reaches: free functions and those of
    `FileSystem` must be named in the kernel crate, those of the other types there or within the
    core itself."""
    crate = kernel.parent / "core"
    functions = sorted(set(public_functions(crate)), key=str)
    for known in [("FileSystem", "commit"), ("Finding", "text"), (None, "check"), (None, "repair")]:
        if known not in functions:
            return [f"{known[1]} is not found in core/src: is this reading it right?"]
    entries = "\n".join(path.read_text() for path in sorted((kernel / "src").rglob("*.rs")))
    core = "\n".join(path.read_text() for path in sorted((crate / "src").rglob("*.rs"))
                     if not path.stem.endswith("tests"))

    def is_reached(owner, name):
        if owner is None:
            return re.search(rf"(?<!fn )(?<![.:])\b{name}\(", entries)
        called = rf"(\.|::){name}\b"
        return re.search(called, entries) or (owner != "FileSystem" and re.search(called, core))

    return [f"{owner or 'core'}::{name}: no entry point calls it" for owner, name in functions
            if f"{owner}::{name}" not in USER_SPACE_ONLY and not is_reached(owner, name)]
