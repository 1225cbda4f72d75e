// SPDX-License-Identifier: GPL-2.0-only
/*
 * Claims: which blocks of a file are dirty in the page cache, or about to be, and have their space. That
 * is a reservation in the core, or, where the file has space that was never written (fallocate), that
 * space. They are bits in words of CLAIM_BITS, three kinds of them in the value that an xarray has for
 * the number of the word: a claim is of the first kind, or the second, or both.
 */

#include "address_space.h"

#define CLAIM_BITS 16

/*
 * A word: the blocks with a claim; of these, those that go where they are, and those that others of the
 * file make room for; and those on their way to where they are.
 */
struct claim_word {
	u16 claimed;
	u16 in_place;
	u16 replacing;
	u16 in_flight;
};

/* The bits of word `word` that lie within blocks `first` to `end`. */
static u16 claim_mask(u64 word, u64 first, u64 end)
{
	u64 base = word * CLAIM_BITS;
	u32 mask = U16_MAX;

	if (end <= base)
		return 0;
	if (first > base)
		mask &= first - base < CLAIM_BITS ? ~0U << (first - base) : 0;
	if (end < base + CLAIM_BITS)
		mask &= ~(~0U << (end - base));
	return mask;
}

static struct claim_word unpack(void *entry)
{
	unsigned long value = entry ? xa_to_value(entry) : 0;
	u16 reserved = value, owned = value >> CLAIM_BITS;

	return (struct claim_word){
		.claimed = reserved | owned,
		.in_place = reserved & owned,
		.replacing = owned & ~reserved,
		.in_flight = value >> 2 * CLAIM_BITS,
	};
}

static void *pack(struct claim_word word)
{
	unsigned long reserved = (u16)(word.claimed & ~word.replacing);
	unsigned long owned = word.in_place | word.replacing;
	unsigned long value = reserved | owned << CLAIM_BITS |
			      (unsigned long)word.in_flight << 2 * CLAIM_BITS;

	return value ? xa_mk_value(value) : NULL;
}

static struct claim_word claim_word(struct vexfs_inode *vi, u64 word)
{
	return unpack(xa_load(&vi->claims, word));
}

/* The blocks of a word with a reservation. */
static unsigned int reserved(struct claim_word word)
{
	return hweight16(word.claimed & ~word.in_place);
}

/* By how many blocks the file becomes larger by the claims of a word. */
static int growth(struct claim_word word)
{
	return hweight16(word.claimed & ~word.in_place & ~word.replacing);
}

static int claim_set(struct vexfs_inode *vi, u64 number, struct claim_word word, gfp_t flags)
{
	struct claim_word old = claim_word(vi, number);
	int error = xa_err(xa_store(&vi->claims, number, pack(word), flags));

	if (!error)
		WRITE_ONCE(vi->claimed, vi->claimed + growth(word) - growth(old));
	return error;
}

u64 vexfs_claims_count(struct inode *inode)
{
	return READ_ONCE(VEXFS_I(inode)->claimed);
}

/* Claims those of the blocks that the file has unwritten space for. Under claims_lock. */
static int claim_in_place(struct inode *inode, u64 first, u64 end)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	u64 at = first, blocks, word;
	int error;

	while (at < end) {
		error = vexfs_core_unwritten(vexfs_core_of(inode), inode->i_ino, &at, end, &blocks);
		if (error || !blocks)
			return error;
		for (word = at / CLAIM_BITS; word <= (at + blocks - 1) / CLAIM_BITS; word++) {
			struct claim_word claim = claim_word(vi, word);
			/* What is on its way there will have been written. */
			u16 fresh = claim_mask(word, at, at + blocks) & ~claim.claimed &
				    ~claim.in_flight;

			if (!fresh)
				continue;
			claim.claimed |= fresh;
			claim.in_place |= fresh;
			error = claim_set(vi, word, claim, GFP_NOFS);
			if (error)
				return error;
		}
		at += blocks;
	}
	return 0;
}

/*
 * Notes which of the claimed blocks the file has already, so that they are not counted twice. Only
 * what stat(2) tells follows from it, so a failure is left to who needs the same of the tree. Under
 * claims_lock.
 */
static void note_replacing(struct inode *inode, u64 first, u64 end)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	u64 at = first, blocks, word;

	while (at < end && !vexfs_core_occupied(vexfs_core_of(inode), inode->i_ino, &at, end, &blocks) &&
	       blocks) {
		for (word = at / CLAIM_BITS; word <= (at + blocks - 1) / CLAIM_BITS; word++) {
			struct claim_word claim = claim_word(vi, word);

			claim.replacing |= claim_mask(word, at, at + blocks) & claim.claimed &
					   ~claim.in_place;
			/* Storing where something is stored needs no memory. */
			claim_set(vi, word, claim, GFP_NOFS);
		}
		at += blocks;
	}
}

/* How many of the blocks have no claim. */
static u64 unclaimed(struct vexfs_inode *vi, u64 first, u64 end)
{
	u64 word, count = 0;

	for (word = first / CLAIM_BITS; word <= (end - 1) / CLAIM_BITS; word++)
		count += hweight16(claim_mask(word, first, end) & ~claim_word(vi, word).claimed);
	return count;
}

/* Sees to it that all of the blocks have space. */
int vexfs_claims_add(struct inode *inode, u64 first, u64 end)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	bool reserving;
	u64 word, missing;
	int error = 0;

	mutex_lock(&vi->claims_lock);
	missing = unclaimed(vi, first, end);
	if (missing && READ_ONCE(vi->perhaps_unwritten)) {
		error = claim_in_place(inode, first, end);
		missing = unclaimed(vi, first, end);
	}
	reserving = missing && !error;
	if (reserving)
		error = vexfs_core_reserve(vexfs_core_of(inode), missing);
	for (word = first / CLAIM_BITS; missing && !error; word++) {
		struct claim_word claim = claim_word(vi, word);
		u16 fresh = claim_mask(word, first, end) & ~claim.claimed;

		if (!fresh)
			continue;
		claim.claimed |= fresh;
		error = claim_set(vi, word, claim, GFP_NOFS);
		if (!error)
			missing -= hweight16(fresh);
		else
			vexfs_core_unreserve(vexfs_core_of(inode), missing);
	}
	if (reserving && READ_ONCE(vi->blocks) && first << inode->i_blkbits < i_size_read(inode))
		note_replacing(inode, first, end);
	mutex_unlock(&vi->claims_lock);
	return error;
}

/*
 * Takes the claims of blocks away and tells how many had a reservation. With `growing`, by how many
 * blocks they make the file larger is added there and goes on to count.
 */
static u64 take_away(struct inode *inode, u64 first, u64 end, unsigned int *growing)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	unsigned long word;
	void *entry;
	u64 count = 0;

	mutex_lock(&vi->claims_lock);
	xa_for_each_start(&vi->claims, word, entry, first / CLAIM_BITS) {
		struct claim_word claim = unpack(entry), left = claim;
		u16 gone = claim.claimed & claim_mask(word, first, end);

		if (word * CLAIM_BITS >= end)
			break;
		if (!gone)
			continue;
		left.claimed &= ~gone;
		left.in_place &= ~gone;
		left.replacing &= ~gone;
		if (growing) {
			/* First this: who counts meanwhile must not find less. */
			*growing += growth(claim) - growth(left);
			WRITE_ONCE(vi->claimed, vi->claimed + growth(claim) - growth(left));
		}
		/* Storing less where something is stored needs no memory. */
		claim_set(vi, word, left, GFP_NOFS);
		count += reserved(claim) - reserved(left);
	}
	mutex_unlock(&vi->claims_lock);
	return count;
}

/* Notes of blocks that they are on their way to where they are, or not any more. */
static void set_in_flight(struct inode *inode, u64 first, u64 end, bool in_flight)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	u64 word;

	for (word = first / CLAIM_BITS; word <= (end - 1) / CLAIM_BITS; word++) {
		struct claim_word claim = claim_word(vi, word);

		if (in_flight)
			claim.in_flight |= claim_mask(word, first, end);
		else
			claim.in_flight &= ~claim_mask(word, first, end);
		claim_set(vi, word, claim, GFP_NOFS | __GFP_NOFAIL);
	}
}

/*
 * Takes the claims of the front of a piece away, whose reservations were used up, because it is on its
 * way. Adds to `growing` by how many blocks the file becomes larger.
 */
void vexfs_claims_use(struct inode *inode, const struct vexfs_piece *piece, u64 blocks,
		      unsigned int *growing)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	u64 end = piece->block + blocks;

	/* First this, so that at no time they look like a hole. */
	mutex_lock(&vi->claims_lock);
	set_in_flight(inode, piece->block, end, true);
	mutex_unlock(&vi->claims_lock);
	take_away(inode, piece->block, end, growing);
}

/* The piece is part of the file, or failed. */
void vexfs_claims_used(struct inode *inode, const struct vexfs_piece *piece, unsigned int growing)
{
	struct vexfs_inode *vi = VEXFS_I(inode);

	mutex_lock(&vi->claims_lock);
	set_in_flight(inode, piece->block, piece->block + piece->blocks, false);
	WRITE_ONCE(vi->claimed, vi->claimed - growing);
	mutex_unlock(&vi->claims_lock);
}

/*
 * Lets the claims of blocks go that will not be written. No writeback of the file is under way but the
 * caller's own, which has nothing allocated ahead.
 */
void vexfs_claims_drop(struct inode *inode, u64 first, u64 end)
{
	u64 count = take_away(inode, first, end, NULL);

	if (count)
		vexfs_core_unreserve(vexfs_core_of(inode), count);
}

/* How many of the blocks have a reservation. */
u64 vexfs_claims_reserved(struct inode *inode, u64 first, u64 end)
{
	u64 word, count = 0;

	for (word = first / CLAIM_BITS; first < end && word <= (end - 1) / CLAIM_BITS; word++) {
		struct claim_word claim = claim_word(VEXFS_I(inode), word);

		count += hweight16(claim.claimed & ~claim.in_place & claim_mask(word, first, end));
	}
	return count;
}

/* How many blocks from `block` on are claimed, without a gap and at most `limit`. */
u64 vexfs_claims_run(struct inode *inode, u64 block, u64 limit)
{
	u64 at = block, end = block + limit;

	while (at < end) {
		u64 word = at / CLAIM_BITS;
		u32 free = ~claim_word(VEXFS_I(inode), word).claimed & claim_mask(word, at, end);

		if (free)
			return word * CLAIM_BITS + __ffs(free) - block;
		at = (word + 1) * CLAIM_BITS;
	}
	return limit;
}

/*
 * The first blocks from `block` on, before `end`, that are dirty or on their way; returns how many they
 * are without a gap. `block` is `end` and there are none when there are none.
 */
u64 vexfs_claims_next(struct inode *inode, u64 *block, u64 end)
{
	u64 first = end, at = *block;
	unsigned long word;
	void *entry;

	xa_for_each_start(&VEXFS_I(inode)->claims, word, entry, at / CLAIM_BITS) {
		struct claim_word claim = unpack(entry);
		u32 taken = claim.claimed | claim.in_flight, mask = claim_mask(word, at, end), found;

		if ((u64)word * CLAIM_BITS >= end || (first < end && word * CLAIM_BITS > at))
			break;
		found = taken & mask;
		if (first == end) {
			if (!found)
				continue;
			first = (u64)word * CLAIM_BITS + __ffs(found);
			mask = claim_mask(word, first, end);
		}
		/* Where it ends within this word, if it does. */
		found = ~taken & mask;
		if (found) {
			at = (u64)word * CLAIM_BITS + __ffs(found);
			break;
		}
		at = min((u64)(word + 1) * CLAIM_BITS, end);
	}
	*block = first;
	return first < end ? at - first : 0;
}
