// SPDX-License-Identifier: GPL-2.0-only
//! The layouts of the structures that cross the boundary, as `boundary.h` asserts them with the same
//! numbers.

use crate::collection::{Collection, GraphWork, NewCollection};
use crate::directory::{NewAttributeFields, NewFields};
use crate::file::Extent;
use crate::host::Write;
use crate::inode::{Change, InodeFields, Time};
use crate::mapping::{Mapping, Piece};
use crate::mount::Status;
use crate::search::{Hit, Query, Report};
use crate::vector::{Put, PutOutcome, Vector};
use core::mem::{offset_of, size_of};

macro_rules! layout {
    ($type:ty, $bytes:literal $(, $member:ident at $offset:literal)*) => {
        const _: () = assert!(size_of::<$type>() == $bytes $(&& offset_of!($type, $member) == $offset)*);
    };
}

layout!(Status, 200, features at 56, block_bytes at 104, label at 128, inline_bytes_max at 196);
layout!(Write, 24);
layout!(Time, 16);
layout!(InodeFields, 136, accessed at 56, mode at 120);
layout!(Change, 96, fields at 64, change at 88);
layout!(NewFields, 24);
layout!(NewAttributeFields, 32, value at 16);
layout!(Extent, 40);
layout!(Mapping, 32);
layout!(Piece, 32);
layout!(NewCollection, 48, degree at 40);
layout!(Collection, 104, number at 80, degree at 92);
layout!(GraphWork, 32);
layout!(Put, 72, chunk at 64);
layout!(PutOutcome, 32);
layout!(Vector, 80, collection at 64);
layout!(Query, 184, monitor at 48, modified at 88, fields at 144);
layout!(Hit, 80, query at 64);
layout!(Report, 40);
