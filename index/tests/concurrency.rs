// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Searches beside the writer.

mod set;

use set::{Random, SERIAL, Set, Threads, clustered};
use std::sync::atomic::{AtomicBool, Ordering};
use vexfs_index::{Builder, Request, Scratch};

#[test]
fn searches_run_while_rows_come_and_go() {
    let mut set = Set::clustered(2000, 3, SERIAL);
    let mut random = Random(41);
    for row in 2000..6000 {
        set.set(row, &clustered(&mut random, 40));
    }
    let done = AtomicBool::new(false);
    let (set, done) = (&set, &done);
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            scope.spawn(move || {
                let mut random = Random(thread);
                let mut scratch = Scratch::new();
                let mut searches = 0;
                while !done.load(Ordering::Relaxed) || searches < 100 {
                    let query = clustered(&mut random, 40);
                    let term = (&query[..], set.term(&query));
                    let request = Request::nearest(10, 32);
                    let mut accept = |_| true;
                    set.graph
                        .search(set.space(), term, &request, &mut accept, &mut scratch)
                        .unwrap();
                    assert_eq!(scratch.hits().len(), 10);
                    assert!(scratch.hits().windows(2).all(|pair| pair[0] < pair[1]));
                    assert!(scratch.hits().iter().all(|hit| hit.row < 6000));
                    searches += 1;
                }
            });
        }
        let mut builder = Builder::new();
        let new: Vec<u32> = (2000..6000).collect();
        for lot in new.chunks(700) {
            set.graph.insert_batch(set.space(), lot, &Threads(2), &mut builder).unwrap();
            let gone: Vec<u32> = lot.iter().copied().filter(|row| row % 4 == 0).collect();
            set.graph.remove_batch(set.space(), &gone, SERIAL, &mut builder).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!((set.graph.nodes(), set.reachable()), (5000, 5000));
    let recall = set.recall(100, 64, |row| row < 2000 || row % 4 != 0);
    assert!(recall >= 0.97, "recall {recall}");
}
