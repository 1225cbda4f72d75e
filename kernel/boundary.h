/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The boundary between C and Rust: handles, integers, byte ranges and structures of fixed layout.
 *
 * Functions named vexfs_core_* are the Rust half's (kernel/src has a file for each part, where they
 * are described), vexfs_simd_* those of the distance kernels, vexfs_host_* what C gives them
 * (host.c, monitor.c). Results are 0, a count or a negative errno. The layouts are asserted here and, with the
 * same numbers, in src/layout.rs.
 */
#ifndef VEXFS_BOUNDARY_H
#define VEXFS_BOUNDARY_H

#include <linux/build_bug.h>
#include <linux/stddef.h>
#include <linux/types.h>

/* An open file system. */
struct vexfs_core;

#define VEXFS_LAYOUT(type, bytes) static_assert(sizeof(struct type) == (bytes))
#define VEXFS_AT(type, member, offset) static_assert(offsetof(struct type, member) == (offset))

/* ---- mount.rs ---- */

struct vexfs_status {
	u64 blocks;
	u64 blocks_free;
	u64 blocks_available;
	u64 inodes;
	u64 inodes_free;
	u64 generation;
	u64 writer_generation;
	u64 features[3];
	s64 created_seconds;
	s64 published_seconds;
	u64 cache_bytes;
	u32 block_bytes;
	u32 tree_levels;
	u8 uuid[16];
	u8 label[64];
	u32 read_only;
	u32 inline_bytes_max;
};
VEXFS_LAYOUT(vexfs_status, 200);
VEXFS_AT(vexfs_status, features, 56);
VEXFS_AT(vexfs_status, block_bytes, 104);
VEXFS_AT(vexfs_status, label, 128);
VEXFS_AT(vexfs_status, inline_bytes_max, 196);

int vexfs_core_mount(void *device, bool read_only, bool discard, size_t cache_bytes,
		     struct vexfs_core **core);
void vexfs_core_unmount(struct vexfs_core *core);
bool vexfs_core_is_read_only(const struct vexfs_core *core);
int vexfs_core_set_read_only(const struct vexfs_core *core, bool read_only);
void vexfs_core_stop(const struct vexfs_core *core);
int vexfs_core_device_failure(const struct vexfs_core *core, u64 *offset);
int vexfs_core_status(const struct vexfs_core *core, struct vexfs_status *status);
int vexfs_core_set_label(const struct vexfs_core *core, const u8 *label, size_t label_bytes);
int vexfs_core_trim(const struct vexfs_core *core, u64 first, u64 blocks, u64 least, u64 *trimmed);
int vexfs_core_commit(const struct vexfs_core *core);
u64 vexfs_core_cached_nodes(const struct vexfs_core *core);
u64 vexfs_core_drop_cached_nodes(const struct vexfs_core *core, u64 count);

/* ---- inode.rs ---- */

struct vexfs_time {
	s64 seconds;
	u32 nanoseconds;
	u32 reserved;
};
VEXFS_LAYOUT(vexfs_time, 16);

/* The upper half of vexfs_inode_fields.flags: the file's bytes are in the tree. */
#define VEXFS_INODE_INLINE (1ULL << 32)

struct vexfs_inode_fields {
	u64 size;
	u64 blocks;
	u64 generation;
	u64 content_version;
	u64 change;
	u64 device;
	u64 flags;
	struct vexfs_time accessed;
	struct vexfs_time modified;
	struct vexfs_time changed;
	struct vexfs_time born;
	u32 mode;
	u32 uid;
	u32 gid;
	u32 links;
};
VEXFS_LAYOUT(vexfs_inode_fields, 136);
VEXFS_AT(vexfs_inode_fields, accessed, 56);
VEXFS_AT(vexfs_inode_fields, mode, 120);

#define VEXFS_CHANGE_MODE 1
#define VEXFS_CHANGE_UID 2
#define VEXFS_CHANGE_GID 4
#define VEXFS_CHANGE_ACCESSED 8
#define VEXFS_CHANGE_MODIFIED 16
#define VEXFS_CHANGE_BORN 32
#define VEXFS_CHANGE_FLAGS 64
#define VEXFS_CHANGE_CHANGED 128
#define VEXFS_CHANGE_LATER 256 /* `changed` counts if it is later than the present one */

struct vexfs_change {
	struct vexfs_time accessed;
	struct vexfs_time modified;
	struct vexfs_time changed;
	struct vexfs_time born;
	u32 fields;
	u32 mode;
	u32 uid;
	u32 gid;
	u32 flags;
	u32 reserved;
	u64 change;
};
VEXFS_LAYOUT(vexfs_change, 96);
VEXFS_AT(vexfs_change, fields, 64);
VEXFS_AT(vexfs_change, change, 88);

typedef bool (*vexfs_each_name)(void *context, u64 parent, const u8 *name, size_t name_bytes);

int vexfs_core_inode(const struct vexfs_core *core, u64 number, struct vexfs_inode_fields *fields);
int vexfs_core_inode_open(const struct vexfs_core *core, u64 number,
			  struct vexfs_inode_fields *fields);
int vexfs_core_inode_close(const struct vexfs_core *core, u64 number);
int vexfs_core_inode_change(const struct vexfs_core *core, u64 number,
			    const struct vexfs_change *change);
s64 vexfs_core_inode_target(const struct vexfs_core *core, u64 number, u8 *buffer,
			    size_t buffer_bytes);
int vexfs_core_inode_parents(const struct vexfs_core *core, u64 number, vexfs_each_name each,
			     void *context);
int vexfs_core_reap_orphans(const struct vexfs_core *core, u64 *number);

/* ---- directory.rs ---- */

struct vexfs_new_fields {
	u64 device;
	u32 mode;
	u32 uid;
	u32 gid;
	u32 reserved;
};
VEXFS_LAYOUT(vexfs_new_fields, 24);

/* An attribute that a new inode has from the start; none if `value` is null. */
struct vexfs_new_attribute {
	const u8 *name;
	size_t name_bytes;
	const u8 *value;
	size_t value_bytes;
};
VEXFS_LAYOUT(vexfs_new_attribute, 32);

/* How many may be given: both access control lists, and labels. */
#define VEXFS_NEW_ATTRIBUTES 6

typedef bool (*vexfs_each_entry)(void *context, const u8 *name, size_t name_bytes, u64 inode,
				 u8 file_type, u64 next);

int vexfs_core_lookup(const struct vexfs_core *core, u64 parent, const u8 *name, size_t name_bytes,
		      u64 *number);
int vexfs_core_create(const struct vexfs_core *core, u64 parent, const u8 *name, size_t name_bytes,
		      const struct vexfs_new_fields *fields,
		      const struct vexfs_new_attribute *attributes, u64 *number);
int vexfs_core_create_unnamed(const struct vexfs_core *core, const struct vexfs_new_fields *fields,
			      const struct vexfs_new_attribute *attributes, u64 *number);
size_t vexfs_core_attribute_inline_bytes_max(const struct vexfs_core *core);
int vexfs_core_create_symlink(const struct vexfs_core *core, u64 parent, const u8 *name,
			      size_t name_bytes, const u8 *target, size_t target_bytes,
			      const struct vexfs_new_fields *owner, u64 *number);
int vexfs_core_link(const struct vexfs_core *core, u64 number, u64 parent, const u8 *name,
		    size_t name_bytes);
int vexfs_core_unlink(const struct vexfs_core *core, u64 parent, const u8 *name, size_t name_bytes);
int vexfs_core_remove_directory(const struct vexfs_core *core, u64 parent, const u8 *name,
				size_t name_bytes);
int vexfs_core_rename(const struct vexfs_core *core, u64 parent, const u8 *name, size_t name_bytes,
		      u64 new_parent, const u8 *new_name, size_t new_name_bytes, u32 flags,
		      const struct vexfs_new_fields *whiteout,
		      const struct vexfs_new_attribute *attributes);
int vexfs_core_read_directory(const struct vexfs_core *core, u64 number, u64 position,
			      vexfs_each_entry each, void *context);

/* ---- attribute.rs ---- */

s64 vexfs_core_get_xattr(const struct vexfs_core *core, u64 number, const u8 *name,
			 size_t name_bytes, u8 *buffer, size_t buffer_bytes);
int vexfs_core_set_xattr(const struct vexfs_core *core, u64 number, const u8 *name,
			 size_t name_bytes, const u8 *value, size_t value_bytes, u32 flags);
int vexfs_core_remove_xattr(const struct vexfs_core *core, u64 number, const u8 *name,
			    size_t name_bytes);
int vexfs_core_list_xattrs(const struct vexfs_core *core, u64 number, vexfs_each_name each,
			   void *context);

/* ---- file.rs ---- */

#define VEXFS_STATE_HOLE 0
#define VEXFS_STATE_UNWRITTEN 1
#define VEXFS_STATE_WRITTEN 2
#define VEXFS_STATE_INLINE 3

struct vexfs_extent {
	u64 offset;
	u64 length;
	u64 device_offset;
	u32 state;
	u32 shared;
	u32 last;
	u32 reserved;
};
VEXFS_LAYOUT(vexfs_extent, 40);

typedef bool (*vexfs_each_extent)(void *context, const struct vexfs_extent *extent);

s64 vexfs_core_read(const struct vexfs_core *core, u64 number, u64 offset, u8 *buffer,
		    size_t buffer_bytes);
int vexfs_core_truncate(const struct vexfs_core *core, u64 number, u64 size);
int vexfs_core_preallocate(const struct vexfs_core *core, u64 number, u64 offset, u64 length,
			   bool keep_size);
int vexfs_core_punch(const struct vexfs_core *core, u64 number, u64 offset, u64 length);
int vexfs_core_collapse(const struct vexfs_core *core, u64 number, u64 offset, u64 length);
int vexfs_core_insert(const struct vexfs_core *core, u64 number, u64 offset, u64 length);
int vexfs_core_zero_range(const struct vexfs_core *core, u64 number, u64 offset, u64 length,
			  bool keep_size);
int vexfs_core_clone_range(const struct vexfs_core *core, u64 from, u64 from_offset, u64 to,
			   u64 to_offset, u64 length);
int vexfs_core_dedupe_range(const struct vexfs_core *core, u64 from, u64 from_offset, u64 to,
			    u64 to_offset, u64 length);
int vexfs_core_extents(const struct vexfs_core *core, u64 number, u64 offset,
		       vexfs_each_extent each, void *context);

/* ---- mapping.rs ---- */

struct vexfs_mapping {
	u64 block;
	u64 blocks;
	u64 device_block;
	u32 state;
	u32 reserved;
};
VEXFS_LAYOUT(vexfs_mapping, 32);

struct vexfs_piece {
	u64 block;
	u64 device_block;
	u64 blocks;
	u64 in_place;
};
VEXFS_LAYOUT(vexfs_piece, 32);

int vexfs_core_map(const struct vexfs_core *core, u64 number, u64 block, u64 blocks,
		   struct vexfs_mapping *mapping, u32 *checksums);
int vexfs_core_reserve(const struct vexfs_core *core, u64 blocks);
bool vexfs_core_has_reserved(const struct vexfs_core *core);
int vexfs_core_unwritten(const struct vexfs_core *core, u64 number, u64 *block, u64 end,
			 u64 *blocks);
int vexfs_core_occupied(const struct vexfs_core *core, u64 number, u64 *block, u64 end,
			u64 *blocks);
void vexfs_core_unreserve(const struct vexfs_core *core, u64 blocks);
s64 vexfs_core_allocate(const struct vexfs_core *core, u64 number, u64 block, u64 blocks,
			u64 reserved, struct vexfs_piece *pieces);
int vexfs_core_complete(const struct vexfs_core *core, u64 number, const struct vexfs_piece *pieces,
			size_t count, const u32 *checksums, u64 size);
int vexfs_core_complete_inline(const struct vexfs_core *core, u64 number, const u8 *data,
			       size_t data_bytes);
void vexfs_core_cancel(const struct vexfs_core *core, const struct vexfs_piece *piece,
		       u64 reserved);
int vexfs_core_touch_data(const struct vexfs_core *core, u64 number, struct vexfs_time modified,
			  u64 *content_version);

/* ---- collection.rs ---- */

struct vexfs_new_collection {
	const u8 *name;
	size_t name_bytes;
	const u8 *model;
	size_t model_bytes;
	u32 dimension;
	u32 build_effort;
	u16 degree;
	u8 element;
	u8 metric;
	u8 quantization;
	u8 reserved[3];
};
VEXFS_LAYOUT(vexfs_new_collection, 48);
VEXFS_AT(vexfs_new_collection, degree, 40);

struct vexfs_collection {
	const u8 *name;
	size_t name_bytes;
	const u8 *model;
	size_t model_bytes;
	u64 rows;
	u64 indexed;
	u64 unindexed;
	u64 memory_bytes;
	u64 damaged;
	s64 created_seconds;
	u32 number;
	u32 dimension;
	u32 build_effort;
	u16 degree;
	u8 element;
	u8 metric;
	u8 quantization;
	u8 loaded;
	u8 graph_damaged;
	u8 reserved[5];
};
VEXFS_LAYOUT(vexfs_collection, 104);
VEXFS_AT(vexfs_collection, number, 80);
VEXFS_AT(vexfs_collection, degree, 92);

struct vexfs_graph_work {
	u64 inserted;
	u64 removed;
	u64 left;
	u64 stored;
};
VEXFS_LAYOUT(vexfs_graph_work, 32);

typedef bool (*vexfs_each_collection)(void *context, const struct vexfs_collection *collection);

int vexfs_core_collection_create(const struct vexfs_core *core,
				 const struct vexfs_new_collection *fields, u32 *number);
int vexfs_core_collections(const struct vexfs_core *core, vexfs_each_collection each,
			   void *context);
int vexfs_core_collection_by_number(const struct vexfs_core *core, u32 number,
				    vexfs_each_collection each, void *context);
int vexfs_core_collection_by_name(const struct vexfs_core *core, const u8 *name, size_t name_bytes,
				  vexfs_each_collection each, void *context);
int vexfs_core_collection_number(const struct vexfs_core *core, const u8 *name, size_t name_bytes,
				 u32 *number);
int vexfs_core_collection_stored_bytes(const struct vexfs_core *core, u32 number, u64 *bytes);
int vexfs_core_collection_vector_bytes(const struct vexfs_core *core, u32 number);
int vexfs_core_collection_drop(const struct vexfs_core *core, u32 number);
int vexfs_core_collection_maintain(const struct vexfs_core *core, u32 number, u64 rows_max,
				   struct vexfs_graph_work *done);
int vexfs_core_collection_rebuild(const struct vexfs_core *core, u32 number,
				  struct vexfs_graph_work *done);
int vexfs_core_collection_store(const struct vexfs_core *core, u32 number);
int vexfs_core_store_graphs(const struct vexfs_core *core);
int vexfs_core_set_index_memory(const struct vexfs_core *core, u64 bytes);
u64 vexfs_core_index_memory_bytes(const struct vexfs_core *core);
s64 vexfs_core_release_index_memory(const struct vexfs_core *core, u64 bytes_max, bool pressing);

/* ---- vector.rs ---- */

struct vexfs_put {
	const u8 *vector;
	size_t vector_bytes;
	u64 offset;
	u64 length;
	u64 content_version;
	u64 tag;
	u8 digest[16];
	u32 chunk;
	u32 reserved;
};
VEXFS_LAYOUT(vexfs_put, 72);
VEXFS_AT(vexfs_put, chunk, 64);

struct vexfs_put_outcome {
	u64 stored;
	u64 replaced;
	u64 stale;
	u64 content_version;
};
VEXFS_LAYOUT(vexfs_put_outcome, 32);

struct vexfs_vector {
	u64 inode;
	u64 offset;
	u64 length;
	u64 content_version;
	u64 tag;
	u64 sequence;
	u8 digest[16];
	u32 collection;
	u32 chunk;
	u32 row;
	u32 fresh;
};
VEXFS_LAYOUT(vexfs_vector, 80);
VEXFS_AT(vexfs_vector, collection, 64);

typedef bool (*vexfs_each_vector)(void *context, const struct vexfs_vector *vector);

int vexfs_core_vectors_put(const struct vexfs_core *core, u32 collection, u64 inode,
			   const struct vexfs_put *puts, size_t count,
			   struct vexfs_put_outcome *outcome);
int vexfs_core_vector_get(const struct vexfs_core *core, u32 collection, u64 inode, u32 chunk,
			  u8 *buffer, size_t buffer_bytes, struct vexfs_vector *vector);
int vexfs_core_vector_by_digest(const struct vexfs_core *core, u32 collection, const u8 *digest,
				u8 *buffer, size_t buffer_bytes, struct vexfs_vector *vector);
int vexfs_core_vectors_remove(const struct vexfs_core *core, u32 collection, u64 inode, u32 first,
			      u32 last, u64 *removed);
int vexfs_core_vectors_of(const struct vexfs_core *core, u64 inode, vexfs_each_vector each,
			  void *context);
int vexfs_core_rows_of(const struct vexfs_core *core, u32 collection, u32 from,
		       vexfs_each_vector each, void *context);
int vexfs_core_vectors_clone(const struct vexfs_core *core, u64 from, u64 to, u64 *cloned);

/* ---- search.rs ---- */

#define VEXFS_QUERY_SUFFIX 1
#define VEXFS_QUERY_SIZE 2
#define VEXFS_QUERY_MODIFIED 4
#define VEXFS_QUERY_UID 8
#define VEXFS_QUERY_TAG 16
#define VEXFS_QUERY_FRESH 32
#define VEXFS_QUERY_RADIUS 64
#define VEXFS_QUERY_EXACT 128
#define VEXFS_QUERY_VECTORS 256
#define VEXFS_QUERY_CREDENTIALS 512
#define VEXFS_QUERY_EXCLUDE 1024
#define VEXFS_QUERY_LISTS 2048

struct vexfs_query {
	const u8 *queries;
	size_t queries_bytes;
	const u8 *suffix;
	size_t suffix_bytes;
	const u32 *groups;
	size_t groups_count;
	void *monitor;
	u64 scope;
	u64 examined_max;
	u64 size[2];
	struct vexfs_time modified[2];
	u64 tag[2];
	u64 exclude;
	u32 fields;
	u32 collection;
	u32 k;
	u32 effort;
	u32 radius_bits;
	u32 owner;
	u32 uid;
	u32 gid;
	u32 hits_max;
	u32 reserved;
};
VEXFS_LAYOUT(vexfs_query, 184);
VEXFS_AT(vexfs_query, monitor, 48);
VEXFS_AT(vexfs_query, modified, 88);
VEXFS_AT(vexfs_query, fields, 144);

struct vexfs_hit {
	u64 inode;
	u64 generation;
	u64 offset;
	u64 length;
	u64 content_version;
	u64 tag;
	const u8 *vector;
	size_t vector_bytes;
	u32 query;
	u32 distance_bits;
	u32 chunk;
	u32 fresh;
};
VEXFS_LAYOUT(vexfs_hit, 80);
VEXFS_AT(vexfs_hit, query, 64);

struct vexfs_report {
	u64 hits;
	u64 examined;
	u64 unindexed;
	u32 plan;
	u32 completeness;
	u32 graph_damaged;
	u32 reserved;
};
VEXFS_LAYOUT(vexfs_report, 40);

typedef bool (*vexfs_each_hit)(void *context, const struct vexfs_hit *hit);

int vexfs_core_search(const struct vexfs_core *core, const struct vexfs_query *query,
		      vexfs_each_hit each, void *context, struct vexfs_report *report);
int vexfs_core_hit_paths(const struct vexfs_core *core, const struct vexfs_query *query, u64 number,
			 vexfs_each_name each, void *context);

int vexfs_core_may_read(const struct vexfs_core *core, const struct vexfs_query *query, u64 number);

/* ---- containers.rs, index.rs: a run through them when the module is loaded ---- */

int vexfs_core_containers_check(u32 count);

/* ---- simd/src/lib.rs: between kernel_fpu_begin and kernel_fpu_end ---- */

struct vexfs_instructions {
	const u8 *name;
	size_t name_bytes;
};
VEXFS_LAYOUT(vexfs_instructions, 16);

void vexfs_simd_detect(struct vexfs_instructions *instructions);
void vexfs_simd_run(void *request);

/* ---- host.c, monitor.c: what the Rust half asks for ---- */

u8 *vexfs_host_allocate(size_t bytes, size_t align, bool zeroed);
void vexfs_host_free(u8 *pointer, size_t bytes);
u64 vexfs_host_device_bytes(void *device);
int vexfs_host_device_read(void *device, u64 offset, u8 *buffer, size_t bytes);
int vexfs_host_device_write(void *device, u64 offset, const u8 *data, size_t bytes);
struct vexfs_write {
	u64 offset;
	const u8 *data;
	size_t bytes;
};
VEXFS_LAYOUT(vexfs_write, 24);

int vexfs_host_device_write_batch(void *device, const struct vexfs_write *writes, size_t count,
				  u64 *failed);
int vexfs_host_device_publish(void *device, u64 offset, const u8 *data, size_t bytes);
int vexfs_host_device_flush(void *device);
int vexfs_host_device_discard(void *device, u64 offset, u64 bytes);
s64 vexfs_host_now(u32 *nanoseconds);
u64 vexfs_host_monotonic_ns(void);
void vexfs_host_random(u8 *buffer, size_t bytes);
u32 vexfs_host_crc32c(u32 seed, const u8 *data, size_t bytes);
void *vexfs_host_lock_new(u32 kind);
void vexfs_host_lock_free(void *lock);
void vexfs_host_lock_shared(void *lock);
bool vexfs_host_lock_shared_interruptible(void *lock);
bool vexfs_host_try_lock_shared(void *lock);
void vexfs_host_unlock_shared(void *lock);
void vexfs_host_lock_exclusive(void *lock);
bool vexfs_host_try_lock_exclusive(void *lock);
void vexfs_host_unlock_exclusive(void *lock);
size_t vexfs_host_workers(void);
void vexfs_host_run_tasks(void (*run)(void *tasks, size_t number), void *tasks, size_t count);
void vexfs_host_relax(void);
bool vexfs_host_interrupted(void);
int vexfs_host_allows(void *context, u64 number, bool directory);
void vexfs_host_committed(void *device, u64 generation, u64 nodes, u64 nanoseconds);
void vexfs_host_loaded(void *device, u32 collection, u64 rows, u64 nodes, u64 nanoseconds);
void vexfs_host_simd_run(void *request);

#endif
