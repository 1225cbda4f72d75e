# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""Tests of the judgement on kernel logs, with lines as kernels print them."""

import unittest

from harness.log import judge

BAD = """\
WARNING: CPU: 1 PID: 93 at fs/inode.c:417 drop_nlink+0x2f/0x40
WARNING: lib/stackdepot.c:506 at depot_fetch_stack+0x111/0x180, CPU#0: swapper/0
WARNING: possible circular locking dependency detected
WARNING: possible recursive locking detected
WARNING: inconsistent lock state
WARNING: suspicious RCU usage
WARNING: bad unlock balance detected!
INFO: trying to register non-static key.
BUG: KASAN: slab-use-after-free in vexfs_evict_inode+0x1f/0x90 [vexfs]
BUG: sleeping function called from invalid context at mm/page_alloc.c:5531
BUG: kernel NULL pointer dereference, address: 0000000000000000
BUG: Bad page state in process sh  pfn:1a2b3
BUG: Dentry 00000000a1b2c3d4{i=3,n=a}  still in use (1) [unmount of vexfs vda]
BUG vexfs_inode (Tainted: G           O      ): Objects remaining in vexfs_inode on shutdown
BUG: scheduling while atomic: sh/93/0x00000002
watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:93]
kernel BUG at fs/inode.c:1763!
Oops: 0000 [#1] PREEMPT SMP NOPTI
Oops: general protection fault, probably for non-canonical address 0xdead000000000100
general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] SMP
UBSAN: shift-out-of-bounds in fs/ext4/super.c:1:2
INFO: task sh:93 blocked for more than 120 seconds.
rcu: INFO: rcu_sched self-detected stall on CPU
rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)
unreferenced object 0xffff88810a2b3c40 (size 64):
VFS: Busy inodes after unmount of vda (vexfs)
Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009
Kernel panic - not syncing: Kernel mode fault at addr 0x0, ip 0x60065e0e
Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: f+0x1/0x2 [vexfs]
BUG: stack guard page was hit at 00000000a1b2c3d4 (stack is 00000000a1b2c3d4..00000000a1b2c3d4)
------------[ cut here ]------------
Call Trace:
list_del corruption. prev->next should be ffff88810a2b3c40, but was dead000000000122
Out of memory: Killed process 93 (sh) total-vm:4480kB, anon-rss:4096kB
sh: page allocation failure: order:4, mode:0x40cc0(GFP_KERNEL|__GFP_COMP)
vexfs: Unknown symbol vexfs_host_none (err -2)
vexfs-vm: failed: the module cannot be unloaded: rmmod: can't unload module 'vexfs'
"""

GOOD = """\
printk: debug: ignoring loglevel setting.
vexfs: loading out-of-tree module taints kernel.
vexfs: module verification failed: signature and/or required key missing - tainting kernel
PCI: Using host bridge windows from ACPI; if necessary, use "pci=nocrs" and report a bug
kmemleak: Kernel memory leak detector initialized (mem pool available: 31892)
Failed to initialize ubd device 0 :Couldn't determine size of device's file
traps: tool[93] general protection fault ip:401000 sp:7ffd error:0 in tool[401000+1000]
tool[93]: segfault at 0 ip 0000000000401000 sp 00007ffd error 6 in tool[401000+1000]
Buffer I/O error on dev dm-0, logical block 16, async page read
RAS: Correctable Errors collector initialized.
clocksource: timekeeping watchdog on CPU0: Marking clocksource 'tsc' as unstable
vexfs-vm: done
"""

INJECTED = """\
FAULT_INJECTION: forcing a failure.
name failslab, interval 1, probability 100, space 0, times -1
CPU: 0 UID: 0 PID: 40 Comm: sh Tainted: G           O        7.3.4-vexfs-debug #2 VOLUNTARY
Tainted: [O]=OOT_MODULE
Stack:
 60fa5120 00000000 60f9bae8 00000004
Call Trace:
 [<60044864>] ? __read_once_word_nocheck+0x0/0x4
 [<600448dd>] show_stack.cold+0x33/0x188
"""


def stamped(text):
    """The lines as a kernel log has them, with a time in front."""
    return [f"[    1.234567] {line}" for line in text.splitlines()]


class Judgement(unittest.TestCase):
    """What is a problem, and what is not."""

    def test_each_kind_of_report_is_a_problem(self):
        for line in stamped(BAD):
            with self.subTest(line):
                self.assertEqual([problem.line for problem in judge([line])], [line])

    def test_ordinary_lines_are_none(self):
        self.assertEqual(judge(stamped(GOOD)), [])

    def test_a_problem_is_reported_with_its_line_number(self):
        lines = stamped(GOOD) + stamped("Call Trace:")
        self.assertEqual([problem.number for problem in judge(lines)], [len(lines)])

    def test_the_stack_of_an_injected_failure_is_none(self):
        self.assertEqual(judge(stamped(INJECTED)), [])

    def test_a_problem_after_an_injected_failure_is_one(self):
        problem = "BUG: KASAN: slab-use-after-free in f+0x1/0x2 [vexfs]"
        lines = stamped(INJECTED + problem + "\nCall Trace:")
        self.assertEqual([found.number for found in judge(lines)], [len(lines) - 1, len(lines)])


if __name__ == "__main__":
    unittest.main()
