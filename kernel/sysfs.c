// SPDX-License-Identifier: GPL-2.0-only
/* Files below /sys/fs/vexfs: one value each. */

#include "vexfs.h"

int vexfs_sysfs_init(void) { return 0; }
void vexfs_sysfs_exit(void) {}
int vexfs_sysfs_add(struct vexfs_super *super) { return 0; }
void vexfs_sysfs_remove(struct vexfs_super *super) {}
