// SPDX-License-Identifier: GPL-2.0-only
/*
 * CRC32C, for every block that is read and written. The kernel's own lies in a module of its own up to
 * 6.13, without which insmod would fail, and is a plain table in user-mode Linux. The instruction
 * needs no floating-point section.
 */

#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/string.h>
#include <asm/byteorder.h>

#include "crc32c.h"

#define POLYNOMIAL 0x82f63b78U

/*
 * Three lanes at once hide the instruction's latency; a block of 4 KiB is five times three lanes and 16
 * bytes. Longer lanes are a sixth faster on what is in a cache, and take three times as long on what is
 * not: the processor fetches ahead of one stream, and three so far apart look like none.
 */
#define LANE_BYTES 272

static u32 slices[8][256];
static u32 lane_shift[4][256];
static bool has_instruction;

#if defined(CONFIG_X86_64) || defined(CONFIG_UML)
static bool detect(void)
{
	u32 eax = 1, ebx, ecx = 0, edx;

	asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	return ecx >> 20 & 1;
}

static __always_inline u64 step(u64 state, const u8 *data)
{
	u64 word;

	__builtin_memcpy(&word, data, sizeof(word)); /* no call, whatever the flags */
	asm("crc32q %1, %0" : "+r"(state) : "rm"(word));
	return state;
}
#else
static bool detect(void)
{
	return false;
}

static __always_inline u64 step(u64 state, const u8 *data)
{
	return 0;
}
#endif

static u32 by_byte(u32 state, const u8 *data, size_t bytes)
{
	while (bytes--)
		state = state >> 8 ^ slices[0][(state ^ *data++) & 0xff];
	return state;
}

static u32 by_table(u32 state, const u8 *data, size_t bytes)
{
	for (; bytes >= 8; bytes -= 8, data += 8) {
		u32 low, high;

		__builtin_memcpy(&low, data, 4);
		__builtin_memcpy(&high, data + 4, 4);
		low = le32_to_cpu((__force __le32)low) ^ state;
		high = le32_to_cpu((__force __le32)high);
		state = slices[7][low & 0xff] ^ slices[6][low >> 8 & 0xff] ^
			slices[5][low >> 16 & 0xff] ^ slices[4][low >> 24] ^
			slices[3][high & 0xff] ^ slices[2][high >> 8 & 0xff] ^
			slices[1][high >> 16 & 0xff] ^ slices[0][high >> 24];
	}
	return by_byte(state, data, bytes);
}

/* The state after as many zeros as a lane has bytes. */
static u32 shift(u32 state)
{
	return lane_shift[0][state & 0xff] ^ lane_shift[1][state >> 8 & 0xff] ^
	       lane_shift[2][state >> 16 & 0xff] ^ lane_shift[3][state >> 24];
}

static u32 by_instruction(u32 state, const u8 *data, size_t bytes)
{
	u64 first = state;

	for (; bytes >= 3 * LANE_BYTES; bytes -= 3 * LANE_BYTES, data += 3 * LANE_BYTES) {
		u64 second = 0, third = 0;
		size_t at;

		for (at = 0; at < LANE_BYTES; at += 8) {
			first = step(first, data + at);
			second = step(second, data + LANE_BYTES + at);
			third = step(third, data + 2 * LANE_BYTES + at);
		}
		first = shift(shift(first) ^ second) ^ third;
	}
	for (; bytes >= 8; bytes -= 8, data += 8)
		first = step(first, data);
	return by_byte(first, data, bytes);
}

u32 vexfs_crc32c(u32 state, const u8 *data, size_t bytes)
{
	return has_instruction ? by_instruction(state, data, bytes) : by_table(state, data, bytes);
}

bool vexfs_crc32c_is_fast(void)
{
	return has_instruction;
}

/* Makes the tables. Returns whether both ways agree with the published value of "123456789". */
bool __init vexfs_crc32c_init(void)
{
	static const u8 zeros[LANE_BYTES] __initconst;
	static const u8 digits[] __initconst = "123456789";
	u32 powers[32], byte, bit, slice, lane;

	for (byte = 0; byte < 256; byte++) {
		u32 state = byte;

		for (bit = 0; bit < 8; bit++)
			state = state >> 1 ^ (state & 1 ? POLYNOMIAL : 0);
		slices[0][byte] = state;
	}
	for (slice = 1; slice < 8; slice++)
		for (byte = 0; byte < 256; byte++)
			slices[slice][byte] = slices[slice - 1][byte] >> 8 ^
					      slices[0][slices[slice - 1][byte] & 0xff];
	/* What zeros do to a state is linear, so it is enough to know it of each bit. */
	for (bit = 0; bit < 32; bit++)
		powers[bit] = by_table(1U << bit, zeros, LANE_BYTES);
	for (lane = 0; lane < 4; lane++)
		for (byte = 0; byte < 256; byte++)
			for (bit = 0; bit < 8; bit++)
				if (byte >> bit & 1)
					lane_shift[lane][byte] ^= powers[lane * 8 + bit];
	has_instruction = detect();
	return ~by_table(~0U, digits, 9) == 0xe3069283U &&
	       vexfs_crc32c(~0U, (const u8 *)slices, sizeof(slices)) ==
		       by_table(~0U, (const u8 *)slices, sizeof(slices));
}
