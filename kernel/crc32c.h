/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef VEXFS_CRC32C_H
#define VEXFS_CRC32C_H

#include <linux/types.h>

bool vexfs_crc32c_init(void);

/* The state after these bytes; all ones at first, and inverted at the end. */
u32 vexfs_crc32c(u32 state, const u8 *data, size_t bytes);

/* Whether the processor has an instruction for it. */
bool vexfs_crc32c_is_fast(void);

#endif
