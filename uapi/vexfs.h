/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Vectors on a mounted VexFS, by ioctl(2) and by IORING_OP_URING_CMD.
 *
 * Every command takes a pointer to a structure that begins with its size in bytes as the caller knows
 * it: at least that of the first version, which this is (EINVAL). A kernel that knows more takes the
 * rest as zeros; one that knows less refuses a rest that is not zero (E2BIG). Fields marked "out" are
 * written by the kernel, all others read; reserved fields and unknown flags must be zero (EINVAL). A
 * pointer travels as __u64, and the layout is the same for 32-bit callers. An unknown command gives
 * ENOTTY.
 *
 * With io_uring the command's number goes to cmd_op and the pointer to the first eight bytes of cmd;
 * the result is in the completion. Structures are read when the command is run, so they have to stay.
 *
 * Errors common to all commands: EFAULT, EINVAL, ENOMEM, EINTR (a signal), EIO and EUCLEAN or EBADMSG
 * (damage), EROFS where something changes.
 */
#ifndef _UAPI_VEXFS_H
#define _UAPI_VEXFS_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* What statfs(2) calls a VexFS. */
#define VEXFS_SUPER_MAGIC 0x56584653

#define VEXFS_COLLECTION_NAME_BYTES 255
#define VEXFS_MODEL_BYTES 255
#define VEXFS_DIGEST_BYTES 16

/* Element types. */
#define VEXFS_ELEMENT_F32 1
#define VEXFS_ELEMENT_F16 2
#define VEXFS_ELEMENT_BF16 3
#define VEXFS_ELEMENT_I8 4
#define VEXFS_ELEMENT_U8 5
#define VEXFS_ELEMENT_BIT 6

/* Metrics; less is nearer in each. */
#define VEXFS_METRIC_L2 1            /* squared */
#define VEXFS_METRIC_COSINE 2        /* one less the cosine */
#define VEXFS_METRIC_INNER_PRODUCT 3 /* negated */
#define VEXFS_METRIC_MANHATTAN 4
#define VEXFS_METRIC_HAMMING 5

/* What the search graph holds instead of the vectors themselves. */
#define VEXFS_QUANTIZATION_NONE 0
#define VEXFS_QUANTIZATION_I8 1
#define VEXFS_QUANTIZATION_F16 2
#define VEXFS_QUANTIZATION_BIT 3

/*
 * Features, limits and numbers of the file system; on any file or directory of it.
 */
struct vexfs_ioc_info {
	__u32 size;
	__u32 version;             /* out: of this interface, 1 */
	__u64 features[3];         /* out: compatible, read-only compatible, incompatible */
	__u64 blocks;              /* out */
	__u64 blocks_free;         /* out */
	__u64 blocks_available;    /* out: of these, without those kept for deleting */
	__u64 inodes;              /* out */
	__u64 inodes_free;         /* out */
	__u64 generation;          /* out: of the last published state */
	__u64 writer_generation;   /* out: how often a writer took the file system over */
	__s64 created_seconds;     /* out: since 1970 */
	__s64 published_seconds;   /* out */
	__u64 cache_bytes;         /* out: of memory for tree nodes */
	__u64 index_bytes;         /* out: of memory for vectors and graphs, to who may read every file */
	__u64 searches;            /* out: answered since mounting, of one query or many, likewise */
	__u64 errors;              /* out: damage and failures met since mounting */
	__u32 block_bytes;         /* out */
	__u32 tree_levels;         /* out */
	__u32 collections;         /* out */
	__u32 collections_max;     /* out: limits, from here on */
	__u32 dimension_max;       /* out: components */
	__u32 queries_max;         /* out: of one search */
	__u32 k_max;               /* out */
	__u32 effort_max;          /* out */
	__u32 hits_max;            /* out: k times queries */
	__u32 put_vectors_max;     /* out: of one put */
	__u8 uuid[16];             /* out */
	__u8 label[64];            /* out: UTF-8, padded with zeros */
	__u32 read_only;           /* out: 1 if nothing may be written */
	__u32 reserved;
};

/*
 * A collection. How much is in it, which is all up to `stored_bytes`, is told to whoever may read every file;
 * others are told zeros.
 */
struct vexfs_ioc_collection {
	__u64 rows;          /* vectors */
	__u64 indexed;       /* of these, in the search graph */
	__u64 unindexed;     /* of these, compared one by one in every search */
	__u64 damaged;       /* that could not be read */
	__u64 memory_bytes;  /* held for it */
	__u64 stored_bytes;  /* on the device */
	__s64 created_seconds;
	__u32 number;        /* what commands on vectors call it by; never used again */
	__u32 dimension;     /* components of a vector */
	__u32 build_effort;
	__u16 degree;        /* neighbours of a graph node at most */
	__u8 element;        /* VEXFS_ELEMENT_ */
	__u8 metric;         /* VEXFS_METRIC_ */
	__u8 quantization;   /* VEXFS_QUANTIZATION_ */
	__u8 loaded;         /* 1 if vectors and graph are in memory */
	__u8 graph_damaged;  /* 1 if the stored graph was damaged and is being built anew */
	__u8 name_bytes;
	__u8 model_bytes;
	__u8 counted;        /* 1 if the caller is told how much is in it */
	__u8 reserved[2];
	char name[256];      /* UTF-8, ended by a zero */
	char model[256];     /* what made the vectors, in words; UTF-8 */
};

/*
 * Makes a collection. For the owner of the root directory, or with CAP_SYS_ADMIN. `collection.name`,
 * `model`, `dimension`, `element`, `metric` and `quantization` say which; `degree` and `build_effort`
 * are 0 for the defaults; everything else of it is zero, and is filled in (only `number`, if another
 * has dropped the collection by then, or memory is short).
 * Errors: EEXIST, EINVAL, ENOSPC, EPERM, ENFILE (too many).
 */
struct vexfs_ioc_collection_create {
	__u32 size;
	__u32 flags;
	struct vexfs_ioc_collection collection; /* in and out */
};

/*
 * Lists collections in the order they were made in, those with numbers above `after`.
 */
struct vexfs_ioc_collection_list {
	__u32 size;
	__u32 flags;
	__u64 collections; /* pointer to room for `count` struct vexfs_ioc_collection */
	__u32 count;       /* in: room, of which 4096 are used at most; out: how many there are now */
	__u32 after;       /* in: 0 at first; out: the last one's number */
};

/*
 * Tells of one collection: that of `collection.number`, or if it is 0 that of `collection.name`.
 * Errors: ENOENT.
 */
struct vexfs_ioc_collection_show {
	__u32 size;
	__u32 flags;
	struct vexfs_ioc_collection collection; /* in and out */
};

/* Work on one collection's search graph. */
#define VEXFS_MAINTAIN_REBUILD 1 /* from nothing, instead of what is missing */

/*
 * Brings a collection's graph up to all its vectors, at once. For whoever may make collections.
 */
struct vexfs_ioc_collection_maintain {
	__u32 size;
	__u32 flags;    /* VEXFS_MAINTAIN_ */
	__u32 number;   /* the collection */
	__u32 reserved;
	__u64 inserted; /* out: vectors put into the graph */
	__u64 removed;  /* out: vectors taken out of it */
	__u64 left;     /* out: vectors not in it yet */
};

/* Drops a collection with all its vectors. For whoever may make collections. */
struct vexfs_ioc_collection_drop {
	__u32 size;
	__u32 flags;
	__u32 number;
	__u32 reserved;
};

/* A vector of a file, as it is put, got and listed. */
struct vexfs_ioc_vector {
	__u64 offset;          /* first byte of the file that it describes */
	__u64 length;          /* bytes that it describes; 0 for the whole file */
	__u64 content_version; /* of the file, that it was made from; put: 0 for the present one */
	__u64 tag;             /* the user's */
	__u8 digest[VEXFS_DIGEST_BYTES]; /* the user's, of the passage; zeros when there is none */
	__u64 sequence;        /* place of its put among the collection's, to who may read every file; put: 0 */
	__u32 collection;      /* its number; put: 0 */
	__u32 chunk;           /* a number within file and collection */
	__u32 fresh;           /* 1 if the file still has that content; put: 0 */
	__u32 reserved;
};

/*
 * Stores vectors of a regular file open for writing, each in place of that of the same chunk. Their
 * file's dirty pages are written first, so that no crash leaves a vector with other bytes than it was
 * made from. Found by searches at once, durable after fsync(2).
 * Errors: EBADF, EISDIR, EINVAL (a component that is no number, a wrong length, a chunk twice), ENOENT
 * (the collection), ENOSPC, E2BIG.
 */
struct vexfs_ioc_put {
	__u32 size;
	__u32 flags;
	__u32 collection;      /* its number */
	__u32 count;           /* 1 to put_vectors_max */
	__u64 vectors;         /* pointer to `count` struct vexfs_ioc_vector */
	__u64 data;            /* pointer to their components, one after another, little endian */
	__u64 data_bytes;
	__u64 stored;          /* out */
	__u64 replaced;        /* out: of these, in place of another */
	__u64 stale;           /* out: of these, made from content that the file no longer has */
	__u64 content_version; /* out: of the file */
};

/*
 * Reads the vector of a chunk of a regular file open for reading.
 * Errors: EBADF, EISDIR, ENOENT, ERANGE (it does not fit).
 */
struct vexfs_ioc_get {
	__u32 size;
	__u32 flags;
	__u32 collection;
	__u32 chunk;
	__u64 data;       /* pointer to room for its components */
	__u64 data_bytes; /* in: of that room; out: of the vector */
	struct vexfs_ioc_vector vector; /* out; zeros before */
};

/*
 * Removes the vectors of chunks `first` to `last` of a regular file open for writing.
 * Errors: EBADF, EISDIR, ENOENT (the collection).
 */
struct vexfs_ioc_remove {
	__u32 size;
	__u32 flags;
	__u32 collection;
	__u32 reserved;
	__u32 first;
	__u32 last;
	__u64 removed; /* out */
};

/*
 * Lists the vectors of a regular file open for reading, in all collections, `skip` of them left out,
 * and tells the file's version.
 * Errors: EBADF, EISDIR.
 */
struct vexfs_ioc_list {
	__u32 size;
	__u32 flags;
	__u64 vectors;         /* pointer to room for `count` struct vexfs_ioc_vector */
	__u32 count;           /* in: room, of which 65536 are used at most; out: how many there are now */
	__u32 reserved;
	__u64 skip;
	__u64 total;           /* out: of the file */
	__u64 content_version; /* out: of the file */
	__u64 generation;      /* out: of the inode */
};

/*
 * Lists the vectors of a collection, of all files that the caller may read, from row `from` on; on a
 * directory, and only those below it. What the caller may not read is passed over: `count` is as many as
 * are wanted while there are so many, and `more` and `from` (which holds until it is unmounted) tell of no
 * others.
 * Errors: ENOENT (the collection), ENOTDIR.
 */
struct vexfs_ioc_rows {
	__u32 size;
	__u32 flags;
	__u32 collection;
	__u32 from;        /* in: 0 at first; out: where to go on */
	__u64 vectors;     /* pointer to room for `count` struct vexfs_ioc_vector */
	__u64 inodes;      /* pointer to room for `count` __u64: their files */
	__u32 count;       /* in: room, of which 65536 are used at most; out: how many there are now */
	__u32 more;        /* out: 1 if there is more */
};

/* What is asked of a hit, and how to search. */
#define VEXFS_SEARCH_EXACT 1       /* compare every vector */
#define VEXFS_SEARCH_RADIUS 2      /* none farther than `radius` */
#define VEXFS_SEARCH_SUFFIX 4      /* the file's name ends so */
#define VEXFS_SEARCH_SIZE 8        /* the file's size */
#define VEXFS_SEARCH_MODIFIED 16   /* when the file's bytes were changed */
#define VEXFS_SEARCH_UID 32        /* the file's owner */
#define VEXFS_SEARCH_TAG 64        /* the vector's tag */
#define VEXFS_SEARCH_FRESH 128     /* the file still has the content */
#define VEXFS_SEARCH_EXCLUDE 256   /* no vector of one file */

/* How an answer was found. */
#define VEXFS_PLAN_EXACT_SCOPE 0  /* every vector of the scope was compared */
#define VEXFS_PLAN_GRAPH 1
#define VEXFS_PLAN_EXACT 2        /* every vector of the collection was compared */
#define VEXFS_PLAN_GRAPH_THEN_EXACT 3
#define VEXFS_PLAN_EXACT_DEVICE 4 /* every vector was compared, read from the device */

/* How complete it is. */
#define VEXFS_ANSWER_EXACT 0
#define VEXFS_ANSWER_APPROXIMATE 1
#define VEXFS_ANSWER_CUT_BY_WORK 2
#define VEXFS_ANSWER_CUT_BY_DAMAGE 3
#define VEXFS_ANSWER_CUT_BY_CHANGES 4

struct vexfs_ioc_hit {
	__u64 inode;
	__u64 generation;      /* of the inode, as in a file handle */
	__u64 offset;          /* first byte of the file that the vector describes */
	__u64 length;          /* bytes that it describes; 0 for the whole file */
	__u64 content_version; /* that it was made from */
	__u64 tag;
	__u32 query;           /* number of the query */
	__u32 distance;        /* bits of a binary32 */
	__u32 chunk;
	__u32 fresh;           /* 1 if the file still has that content */
};

struct vexfs_ioc_time {
	__s64 seconds;
	__u32 nanoseconds;
	__u32 reserved;
};

/*
 * Finds the vectors nearest to one query or several; on a directory, below which it looks. Only files
 * are found that the caller could open for reading by a path below the directory, as far as modes, access
 * control lists and the labels of SELinux and Smack say. Of bytes that wait in the page cache to be written
 * back, a file's size and time of change may not tell yet here; whether it still has the content that a
 * vector was made from does. A caller who may not read everything is told of no more than it asked for:
 * with VEXFS_SEARCH_EXACT of VEXFS_PLAN_EXACT and VEXFS_ANSWER_EXACT, else of VEXFS_PLAN_GRAPH and
 * VEXFS_ANSWER_APPROXIMATE, unless the answer was cut.
 * Errors: EINVAL (a query that does not fit the collection), ENOENT (the collection), E2BIG (over a
 * limit), ENOTDIR.
 */
struct vexfs_ioc_search {
	__u32 size;
	__u32 flags;          /* VEXFS_SEARCH_ */
	__u32 collection;     /* its number */
	__u32 k;              /* hits wanted for each query */
	__u32 effort;         /* width of the beam in the graph; 0 for the default */
	__u32 radius;         /* bits of a binary32 */
	__u64 queries;        /* pointer to the queries, one after another, as the collection's vectors */
	__u64 queries_bytes;
	__u64 hits;           /* pointer to room for `hits_max` struct vexfs_ioc_hit */
	__u64 vectors;        /* pointer to room for the vector of each hit, or 0 */
	__u32 hits_max;       /* at least k times the queries */
	__u32 suffix_bytes;   /* at most 255 */
	__u64 suffix;         /* pointer */
	__u64 examined_max;   /* distances to compute for a query at most; 0 sets no limit, nor does any
	                       * number for a caller who may not read everything */
	__u64 size_range[2];  /* bytes, both included */
	struct vexfs_ioc_time modified_range[2];
	__u64 tag_range[2];
	__u64 exclude;        /* the inode that is left out */
	__u32 uid;            /* an owner, by the number that the caller knows it by */
	__u32 plan;           /* out: VEXFS_PLAN_ */
	__u32 completeness;   /* out: VEXFS_ANSWER_ */
	__u32 hits_count;     /* out: query after query, nearest first */
	__u64 examined;       /* out: distances computed */
	__u64 unindexed;      /* out: vectors compared because the graph has them not yet */
	__u64 nanoseconds;    /* out: spent on it within the kernel */
};

/*
 * Tells the paths of an inode below a directory, relative to it, that the caller may walk; as many as fit
 * in the room, of which 1 MiB is used at most. The rest is told to who asks again and skips those.
 * Errors: ENOENT (none that the caller may walk, or the caller may not read it), ENOTDIR, ESTALE (another
 * generation), ERANGE (not even one fits in the room).
 */
struct vexfs_ioc_paths {
	__u32 size;
	__u32 flags;
	__u64 inode;
	__u64 generation; /* 0 for any */
	__u64 paths;      /* pointer to room for paths, each ended by a zero byte */
	__u32 bytes;      /* in: of that room; out: in use */
	__u32 count;      /* out: paths told */
	__u32 skip;       /* paths to pass over, for going on */
	__u32 more;       /* out: 1 if there are others */
};

#define VEXFS_IOC_TYPE 0xBC
#define VEXFS_IOC_INFO _IOWR(VEXFS_IOC_TYPE, 0, struct vexfs_ioc_info)
#define VEXFS_IOC_COLLECTION_CREATE _IOWR(VEXFS_IOC_TYPE, 1, struct vexfs_ioc_collection_create)
#define VEXFS_IOC_COLLECTION_LIST _IOWR(VEXFS_IOC_TYPE, 2, struct vexfs_ioc_collection_list)
#define VEXFS_IOC_COLLECTION_SHOW _IOWR(VEXFS_IOC_TYPE, 3, struct vexfs_ioc_collection_show)
#define VEXFS_IOC_COLLECTION_MAINTAIN                                                              \
	_IOWR(VEXFS_IOC_TYPE, 4, struct vexfs_ioc_collection_maintain)
#define VEXFS_IOC_COLLECTION_DROP _IOWR(VEXFS_IOC_TYPE, 5, struct vexfs_ioc_collection_drop)
#define VEXFS_IOC_PUT _IOWR(VEXFS_IOC_TYPE, 6, struct vexfs_ioc_put)
#define VEXFS_IOC_GET _IOWR(VEXFS_IOC_TYPE, 7, struct vexfs_ioc_get)
#define VEXFS_IOC_REMOVE _IOWR(VEXFS_IOC_TYPE, 8, struct vexfs_ioc_remove)
#define VEXFS_IOC_LIST _IOWR(VEXFS_IOC_TYPE, 9, struct vexfs_ioc_list)
#define VEXFS_IOC_ROWS _IOWR(VEXFS_IOC_TYPE, 10, struct vexfs_ioc_rows)
#define VEXFS_IOC_SEARCH _IOWR(VEXFS_IOC_TYPE, 11, struct vexfs_ioc_search)
#define VEXFS_IOC_PATHS _IOWR(VEXFS_IOC_TYPE, 12, struct vexfs_ioc_paths)

#endif
