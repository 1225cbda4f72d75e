// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Streams without inodes: atomic writes with rows beside them.

use crate::key::{Key, Kind};
use crate::stream::{StreamWrite, punch_stream};
use crate::testing::Memory;
use crate::tree_tests::{Rng, format};
use crate::{Error, FileSystem, OpenOptions};
use std::vec::Vec;

fn row(n: u64) -> Key {
    Key::new(7000, Kind::Row, n)
}

#[test]
fn a_stream_write_and_its_rows_happen_together_or_not_at_all() {
    let memory = Memory::new(16 << 20);
    let fs = format(&memory, 12);
    let free = fs.status().blocks_free;
    let mut rng = Rng(11);
    let mut model = std::vec![0u8; 300_000];
    for step in 0..400u64 {
        let offset = rng.below(280_000);
        let bytes: Vec<u8> = (0..1 + rng.below(20_000)).map(|i| (i * 7 + step) as u8).collect();
        let fail = rng.below(4) == 0;
        let result = fs.write_stream_with(900, offset, &bytes, 2, |tree| {
            tree.put(row(step), &[b"row"])?;
            if fail { Err(Error::Busy) } else { Ok(step) }
        });
        if fail {
            assert_eq!(result, Err(Error::Busy));
        } else {
            assert_eq!(result, Ok(step));
            model[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        assert_eq!(fs.reader().get(row(step)).unwrap().is_some(), !fail);
        assert_eq!(fs.reader().space.in_flight(), 0);
        if rng.below(50) == 0 {
            fs.commit().unwrap();
        }
        let mut read = std::vec![1u8; 1 + rng.below(50_000) as usize];
        let at = rng.below((model.len() - read.len()) as u64);
        fs.stream_read(900, at, &mut read).unwrap();
        assert!(read == model[at as usize..][..read.len()], "step {step}");
    }
    fs.commit().unwrap();
    drop(fs);
    let fs = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
    let mut read = std::vec![1u8; model.len()];
    fs.stream_read(900, 0, &mut read).unwrap();
    assert!(read == model);
    fs.operation(10, true, |tree| punch_stream(tree, 900, 3, 5)).unwrap();
    model[3 * 4096..8 * 4096].fill(0);
    fs.stream_read(900, 0, &mut read).unwrap();
    assert!(read == model);
    while !fs.free_object_extents(900, 0, 3).unwrap() {}
    for n in 0..400 {
        let _ = fs.operation(2, true, |tree| tree.remove(row(n)));
    }
    fs.commit().unwrap();
    assert_eq!(fs.status().blocks_free, free);
}

#[test]
fn writes_to_several_streams_share_blocks_and_one_operation() {
    let memory = Memory::new(8 << 20);
    let fs = format(&memory, 12);
    let write = |object, offset, bytes| StreamWrite { object, offset, bytes };
    let (a, b) = (std::vec![1u8; 5000], std::vec![2u8; 10_000]);
    let writes = [
        write(900, 0, &a[..100]),
        write(900, 200, &a[..300]),
        write(900, 4000, &a),
        write(900, 9000, &b[..10]),
        write(901, 50, &b),
    ];
    fs.write_streams_with(&writes, 0, |_| Ok(())).unwrap();
    let mut read = std::vec![9u8; 16_384];
    let mut model = std::vec![0u8; 16_384];
    for write in &writes[..4] {
        model[write.offset as usize..][..write.bytes.len()].copy_from_slice(write.bytes);
    }
    fs.stream_read(900, 0, &mut read).unwrap();
    assert!(read == model);
    fs.stream_read(901, 50, &mut read[..10_000]).unwrap();
    assert!(read[..10_000] == b[..]);
    for wrong in [
        [write(900, 10, &a[..20]), write(900, 29, &a[..2])],
        [write(901, 0, &a[..20]), write(900, 29, &a[..2])],
    ] {
        let result = fs.write_streams_with(&wrong, 0, |_| Ok(()));
        assert!(matches!(result, Err(Error::Invalid(_))), "{result:?}");
    }
    let large = std::vec![0u8; crate::WRITE_BYTES_MAX + 3 * 4096];
    assert_eq!(fs.write_stream_with(900, 0, &large, 0, |_| Ok(())), Err(Error::TooBig("write")));
}
