// SPDX-License-Identifier: GPL-2.0-only
/*
 * Claims: which blocks of a file have space reserved in the core, because they are dirty in the page
 * cache or about to be. They are bits in words of CLAIM_BITS, values of an xarray by the number of the
 * word.
 */

#include "address_space.h"

#define CLAIM_BITS 32

/* The bits of word `word` that lie within blocks `first` to `end`. */
static u32 claim_mask(u64 word, u64 first, u64 end)
{
	u64 base = word * CLAIM_BITS;
	u32 mask = ~0U;

	if (end <= base)
		return 0;
	if (first > base)
		mask &= ~0U << (first - base);
	if (end < base + CLAIM_BITS)
		mask &= ~(~0U << (end - base));
	return mask;
}

static u32 claim_word(struct vexfs_inode *vi, u64 word)
{
	void *entry = xa_load(&vi->claims, word);

	return entry ? xa_to_value(entry) : 0;
}

static int claim_set(struct vexfs_inode *vi, u64 word, u32 value)
{
	u32 old = claim_word(vi, word);
	void *entry = value ? xa_mk_value(value) : NULL;
	int error = xa_err(xa_store(&vi->claims, word, entry, GFP_NOFS));

	if (!error)
		vi->claimed += (u64)hweight32(value) - hweight32(old);
	return error;
}

u64 vexfs_claims_count(struct inode *inode)
{
	return READ_ONCE(VEXFS_I(inode)->claimed);
}

/* Reserves space for those of the blocks that have none. */
int vexfs_claims_add(struct inode *inode, u64 first, u64 end)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	u64 last_word = (end - 1) / CLAIM_BITS;
	u64 word, missing = 0;
	int error = 0;

	mutex_lock(&vi->claims_lock);
	for (word = first / CLAIM_BITS; word <= last_word; word++)
		missing += hweight32(claim_mask(word, first, end) & ~claim_word(vi, word));
	if (missing)
		error = vexfs_core_reserve(vexfs_core_of(inode), missing);
	for (word = first / CLAIM_BITS; missing && !error && word <= last_word; word++) {
		u32 old = claim_word(vi, word);
		u32 new = old | claim_mask(word, first, end);

		if (new == old)
			continue;
		error = claim_set(vi, word, new);
		if (!error)
			missing -= hweight32(new & ~old);
		else
			vexfs_core_unreserve(vexfs_core_of(inode), missing);
	}
	mutex_unlock(&vi->claims_lock);
	return error;
}

/* Takes the claims of blocks away and tells how many there were. */
static u64 take_away(struct inode *inode, u64 first, u64 end)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	unsigned long word;
	void *entry;
	u64 count = 0;

	mutex_lock(&vi->claims_lock);
	xa_for_each_start(&vi->claims, word, entry, first / CLAIM_BITS) {
		u32 gone = xa_to_value(entry) & claim_mask(word, first, end);

		if (word * CLAIM_BITS >= end)
			break;
		/* Storing less where something is stored needs no memory. */
		if (gone)
			claim_set(vi, word, xa_to_value(entry) & ~gone);
		count += hweight32(gone);
	}
	mutex_unlock(&vi->claims_lock);
	return count;
}

/* Takes the claims of blocks away whose reservations were used up. */
void vexfs_claims_clear(struct inode *inode, u64 first, u64 end)
{
	take_away(inode, first, end);
}

/*
 * Lets the claims of blocks go that will not be written. No writeback of the file is under way but the
 * caller's own, which has nothing allocated ahead.
 */
void vexfs_claims_drop(struct inode *inode, u64 first, u64 end)
{
	u64 count = take_away(inode, first, end);

	if (count)
		vexfs_core_unreserve(vexfs_core_of(inode), count);
}

/* How many blocks from `block` on are claimed, without a gap and at most `limit`. */
u64 vexfs_claims_run(struct inode *inode, u64 block, u64 limit)
{
	u64 at = block, end = block + limit;

	while (at < end) {
		u64 word = at / CLAIM_BITS;
		u32 free = ~claim_word(VEXFS_I(inode), word) & claim_mask(word, at, end);

		if (free)
			return word * CLAIM_BITS + __ffs(free) - block;
		at = (word + 1) * CLAIM_BITS;
	}
	return limit;
}

/* The first claimed block from `block` on, or `end`. */
u64 vexfs_claims_next(struct inode *inode, u64 block, u64 end)
{
	unsigned long word;
	void *entry;

	xa_for_each_start(&VEXFS_I(inode)->claims, word, entry, block / CLAIM_BITS) {
		u32 found = xa_to_value(entry) & claim_mask(word, block, end);

		if (found)
			return (u64)word * CLAIM_BITS + __ffs(found);
		if ((u64)word * CLAIM_BITS >= end)
			break;
	}
	return end;
}

