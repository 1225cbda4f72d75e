# SPDX-License-Identifier: GPL-2.0-only
"""Judges the objects that `kernel/build` left, and itself by way of the counterexample."""

import pathlib
import sys

from elf import Object
from entries import unreached
from missing import without_headers, without_library_source
from rules import FRAME_BYTES_MAX, Inspection

# What each rule must find in the counterexample; no other function may be reported by it.
COUNTEREXAMPLES = {
    "no panic": {"vexfs_panicking_index", "vexfs_panicking_range", "vexfs_panicking_unwrap",
                 "vexfs_panicking_division"},
    "no aborting allocation": {"vexfs_aborting_allocation"},
    "no software floating point": {"vexfs_soft_float_addition", "vexfs_soft_float_conversion"},
    "no floating-point or vector register": {"vexfs_vector_register"},
    "no symbol that the kernel lacks": {"vexfs_undefined_symbol", "vexfs_refused_relocation"},
    f"no stack frame over {FRAME_BYTES_MAX} bytes": {"vexfs_large_frame"},
    "no recursion": {"vexfs_mutual_recursion", "vexfs_recursion"},
    "no relocation that the module loader refuses": {"vexfs_refused_relocation"},
    "no return or indirect branch without a thunk": {"vexfs_naked_branch"},
}


class Tally:
    """Counts verdicts and prints each on a line of its own."""

    def __init__(self):
        self.passed, self.failed = 0, 0

    def add(self, name, problems):
        """One check; `problems` are the lines that say why it failed."""
        if problems:
            self.failed += 1
            print(f"FAILED {name}")
            for line in problems:
                print(f"       {line}")
        else:
            self.passed += 1
            print(f"ok     {name}")


def judge(tally, title, inspection):
    """Every rule on one object, and what it measures even when all is well."""
    obj = inspection.object
    print(f"{title}: {obj.text_bytes()} bytes of code, {len(obj.functions)} functions, "
          f"{len(obj.roots)} entry points, {inspection.instructions} instructions, "
          f"{len(obj.undefined)} symbols from outside")
    print("       largest frames: " + ", ".join(
        f"{size} {inspection.name(function)}" for function, size in inspection.worst_frames(5)))
    depth, path = inspection.deepest_path()
    print(f"       deepest direct calls: {depth} bytes of stack: "
          + " -> ".join(f"{name} ({size})" for name, size in path))
    for name, offences in inspection.rules():
        problems = []
        for offence in offences:
            problems.append(f"{offence.function}: {offence.what}")
            problems += [f"    {detail}" for detail in offence.details]
        tally.add(f"{title}: {name}", problems)


def judge_self(tally, inspection):
    """Shows that each rule can fail: it must name the functions made for it, and only those."""
    for name, offences in inspection.rules():
        found, wanted = {offence.function for offence in offences}, COUNTEREXAMPLES[name]
        problems = [f"not reported: {function}" for function in sorted(wanted - found)]
        problems += [f"wrongly reported: {function}" for function in sorted(found - wanted)]
        tally.add(f"counterexample: {name}", problems)


def main(kernel):
    objects = kernel / "target" / "objects"
    tally = Tally()
    judge_self(tally, Inspection(Object(objects / "counterexample.o"), floating_point=False))
    core = Inspection(Object(objects / "vexfs_core.o"), floating_point=False)
    judge(tally, "core object", core)
    simd = Inspection(Object(objects / "vexfs_simd.o"), floating_point=True)
    judge(tally, "simd object", simd)
    # On a soft-float target a function for AVX-512 compiles without a word into scalar code.
    tally.add("simd object: vector instructions of 64 bytes are there",
              [] if simd.vector_bytes == 64 else [f"the widest is of {simd.vector_bytes} bytes"])
    tally.add("entry points: every public function of the core is reached",
              unreached(kernel))
    tally.add("build: without the headers of a kernel it says what to install",
              without_headers(kernel))
    tally.add("build: without the source of the compiler's library it says what to install",
              without_library_source(kernel))
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


sys.exit(main(pathlib.Path(sys.argv[1])))
