# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""Judges a kernel log: which of its lines tell that something is wrong in the kernel."""

import re
from collections import namedtuple

Problem = namedtuple("Problem", "number line")

# One of these in a line is a failure. Reports of several lines match more than once; that is fine.
PROBLEMS = re.compile("|".join((
    r"\bBUG\b",                         # also of slab caches, page tables, dentries in use, KASAN
    r"\bWARNING:",                      # also of lockdep, RCU and reference counts
    r"\bOops\b",
    r"\bK[AMC]?SAN:|\bKFENCE:|\bUBSAN:|\bODEBUG:",
    r"Kernel panic|Kernel mode fault|[Kk]ernel stack (is corrupted|overflow)|corrupted stack",
    r"general protection|unable to handle|double fault|stack guard|stack-protector",
    r"------------\[ cut here \]|Call Trace:|Modules linked in:",
    r"possible (circular|recursive|irq|deadlock)|inconsistent lock state|lock held when returning",
    r"suspicious RCU|held lock freed|bad unlock balance|turning off the locking",
    r"[Ii]llegal context switch|scheduling while atomic|sleeping function called",
    r"INFO: (task .* blocked|trying to register|rcu\w* .*(stall|detected)|NMI handler)",
    r"rcu: INFO:|\bstall(s)? (detected|on CPU)|self-detected stall|soft lockup|hard LOCKUP",
    r"unreferenced object|kmemleak: (?!Automatic|Kernel memory leak detector initialized)",
    r"Busy inodes after unmount|bad usercopy|Objects remaining in|list_(add|del) corruption",
    r"Out of memory:|oom-killer|page allocation failure",
    r"unchecked MSR access|nobody cared|Unknown symbol|disagrees about version|Invalid ELF",
    r"vexfs-vm: failed",                # guest/init speaks
)))

# Lines that match above and mean no harm, each with the reason.
HARMLESS = (
    # A fault of a program: its exit status tells of it.
    re.compile(r"traps: \S+\[\d+\] "),
    # For want of memory it looks at all of an object, and so at more than it must.
    re.compile(r"kmemleak: Cannot allocate a scan area, scanning the full object"),
)

# A failure that was asked for prints a stack, which is no failure of the kernel.
INJECTED = "FAULT_INJECTION: forcing a failure"
INJECTED_LINES_MAX = 20  # from that line to its stack
STACK = "Call Trace:"


def judge(lines):
    """The problems that the lines of a kernel log tell of, each with its line's number from 1."""
    problems = []
    stack_expected_until = 0
    for number, line in enumerate(lines, start=1):
        if INJECTED in line:
            stack_expected_until = number + INJECTED_LINES_MAX
        elif STACK in line and number <= stack_expected_until:
            stack_expected_until = 0
        elif PROBLEMS.search(line) and not any(harmless.search(line) for harmless in HARMLESS):
            problems.append(Problem(number, line))
    return problems
