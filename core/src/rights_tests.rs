// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Scope, rights and filters of searches against a slow oracle that walks down from the scope.

use crate::testing::Memory;
use crate::tree_tests::{Rng, format};
use crate::vector_tests::{ROOT, change_content, distance, options, put, row, search, shape};
use crate::*;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::string::String;
use std::vec::Vec;
use vexfs_simd::{Distance, ElementType, Metric, Shape};

/// What the oracle knows of an inode.
#[derive(Clone)]
struct Node {
    ino: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    /// Names and what they lead to, for a directory.
    entries: Vec<(String, usize)>,
    vectors: Vec<(u32, Vec<u8>, u64)>,
    /// Permissions of users, of the owning group, of groups, and the mask.
    list: Option<List>,
}

#[derive(Clone)]
struct List {
    users: Vec<(u32, u32)>,
    owning: u32,
    groups: Vec<(u32, u32)>,
    mask: u32,
}

impl List {
    fn random(rng: &mut Rng) -> Self {
        let mut some = |first| {
            let count = rng.below(3) as u32;
            (0..count).map(|at| (first + at, rng.below(8) as u32)).collect::<Vec<_>>()
        };
        let (users, groups) = (some(1), some(11));
        Self { users, groups, owning: rng.below(8) as u32, mask: rng.below(8) as u32 }
    }

    fn bytes(&self, mode: u32) -> Vec<u8> {
        let mut bytes = 2u32.to_le_bytes().to_vec();
        let mut entry = |tag: u16, permissions: u32, id: u32| {
            bytes.extend(tag.to_le_bytes());
            bytes.extend((permissions as u16).to_le_bytes());
            bytes.extend(id.to_le_bytes());
        };
        entry(1, mode >> 6 & 7, u32::MAX);
        self.users.iter().for_each(|(id, permissions)| entry(2, *permissions, *id));
        entry(4, self.owning, u32::MAX);
        self.groups.iter().for_each(|(id, permissions)| entry(8, *permissions, *id));
        entry(0x10, self.mask, u32::MAX);
        entry(0x20, mode & 7, u32::MAX);
        bytes
    }
}

/// Refuses some inodes, whatever their permissions. Notes what it is asked of.
struct Refusals<'a> {
    fs: &'a FileSystem,
    inodes: &'a BTreeSet<u64>,
    asked: RefCell<Vec<u64>>,
}

impl<'a> Refusals<'a> {
    fn new(fs: &'a FileSystem, inodes: &'a BTreeSet<u64>) -> Self {
        Self { fs, inodes, asked: RefCell::default() }
    }
}

impl Monitor for Refusals<'_> {
    fn allows(&self, number: u64, want: Want) -> Result<bool> {
        // The locks of these tests panic when one is taken a second time, so the tree is not locked.
        let inode = self.fs.inode(number)?;
        assert_eq!(want == Want::Search, inode.is_directory(), "{number}");
        let mut asked = self.asked.borrow_mut();
        assert!(!asked.contains(&number), "{number} is asked of twice");
        asked.push(number);
        Ok(!self.inodes.contains(&number))
    }
}

struct World {
    fs: FileSystem,
    number: u32,
    shape: Shape,
    nodes: Vec<Node>,
    rng: Rng,
}

impl World {
    fn new(seed: u64, directories: usize, files: usize, chunks: u64) -> Self {
        let fs = format(&Memory::new(64 << 20), 12);
        let shape = shape(ElementType::U8, Metric::L2, 16);
        let number = fs.create_collection(&options("c", shape)).unwrap();
        let mut rng = Rng(0xfeed_beef + seed);
        fs.set_attributes(ROOT, &SetAttributes { mode: Some(0o755), ..Default::default() })
            .unwrap();
        let node = |ino, mode, uid, gid| Node {
            ino,
            mode,
            uid,
            gid,
            entries: Vec::new(),
            vectors: Vec::new(),
            list: None,
        };
        let mut nodes = std::vec![node(ROOT, MODE_DIRECTORY | 0o755, 0, 0)];
        for at in 1..=directories {
            let parent = rng.below(at as u64) as usize;
            // Most directories are open, or hardly anything could be reached.
            let mode = [0o755, 0o755, 0o755, 0o750, 0o700, 0o711, 0o644, 0o070, 0o001]
                [rng.below(9) as usize];
            let (uid, gid) = (rng.below(4) as u32, rng.below(4) as u32 + 10);
            let name = std::format!("d{at}");
            let new = NewInode { mode: MODE_DIRECTORY | mode, owner: (uid, gid), device: 0 };
            let ino = fs.create(nodes[parent].ino, name.as_bytes(), &new).unwrap();
            nodes[parent].entries.push((name, at));
            nodes.push(node(ino, MODE_DIRECTORY | mode, uid, gid));
        }
        for at in 0..files {
            let parent = rng.below(directories as u64 + 1) as usize;
            let mode = [0o644, 0o640, 0o600, 0o444, 0o040, 0o004, 0o000][rng.below(7) as usize];
            let (uid, gid) = (rng.below(4) as u32, rng.below(4) as u32 + 10);
            let name = std::format!("f{at}.{}", ["txt", "md"][rng.below(2) as usize]);
            let new = NewInode { mode: MODE_FILE | mode, owner: (uid, gid), device: 0 };
            let ino = fs.create(nodes[parent].ino, name.as_bytes(), &new).unwrap();
            let number_of = nodes.len();
            nodes[parent].entries.push((name, number_of));
            nodes.push(node(ino, MODE_FILE | mode, uid, gid));
            // Further names elsewhere.
            while rng.below(3) == 0 {
                let parent = rng.below(directories as u64 + 1) as usize;
                let name = std::format!("l{}.{}", rng.next(), ["txt", "md"][rng.below(2) as usize]);
                fs.link(ino, nodes[parent].ino, name.as_bytes()).unwrap();
                nodes[parent].entries.push((name, number_of));
            }
            let rows: Vec<_> = (0..=rng.below(chunks)).map(|_| row(&mut rng, &shape)).collect();
            let tags: Vec<_> = rows.iter().map(|_| rng.below(100)).collect();
            let puts: Vec<_> = rows
                .iter()
                .zip(0..)
                .map(|(bytes, chunk)| VectorPut { tag: tags[chunk as usize], ..put(chunk, bytes) })
                .collect();
            fs.put_vectors(number, ino, &puts).unwrap();
            let vectors = rows.into_iter().zip(tags).zip(0..);
            nodes[number_of].vectors =
                vectors.map(|((bytes, tag), chunk)| (chunk, bytes, tag)).collect();
        }
        // Some have an access control list, whose mask shows as the group's permissions.
        for node in nodes.iter_mut().skip(1).filter(|node| node.uid != 0) {
            if rng.below(4) == 0 {
                let list = List::random(&mut rng);
                node.mode = node.mode & !0o070 | list.mask << 3;
                let set = SetAttributes { mode: Some(node.mode), ..Default::default() };
                fs.set_attributes(node.ino, &set).unwrap();
                let bytes = list.bytes(node.mode);
                fs.set_xattr(node.ino, b"system.posix_acl_access", &bytes, XattrMode::Set).unwrap();
                node.list = Some(list);
            }
        }
        Self { fs, number, shape, nodes, rng }
    }

    /// Whether `who` may do what `bit` of the permissions says.
    fn may(&self, node: &Node, who: Option<&Credentials<'_>>, bit: u32) -> bool {
        let Some(who) = who else { return true };
        let groups = || [who.gid].into_iter().chain(who.groups.iter().copied());
        if let Some(list) = node.list.as_ref().filter(|list| list.mask != 0) {
            if node.uid == who.uid {
                return node.mode >> 6 & bit != 0;
            }
            if let Some((_, permissions)) = list.users.iter().find(|(id, _)| *id == who.uid) {
                return permissions & list.mask & bit != 0;
            }
            let mut classes = list.groups.clone();
            classes.push((node.gid, list.owning));
            classes.retain(|(id, _)| groups().any(|group| group == *id));
            return match classes.is_empty() {
                true => node.mode & bit != 0,
                false => classes.iter().any(|(_, p)| p & list.mask & bit != 0),
            };
        }
        let shift = match node {
            _ if node.uid == who.uid => 6,
            _ if groups().any(|group| group == node.gid) => 3,
            _ => 0,
        };
        node.mode >> shift & bit != 0
    }

    /// The files that can be read by a path from `scope` down with a name of this suffix.
    fn readable(
        &self,
        scope: usize,
        who: Option<&Credentials<'_>>,
        refused: &BTreeSet<u64>,
        suffix: Option<&[u8]>,
    ) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut waiting = std::vec![scope];
        while let Some(at) = waiting.pop() {
            if !self.may(&self.nodes[at], who, 1) || refused.contains(&self.nodes[at].ino) {
                continue;
            }
            for (name, to) in &self.nodes[at].entries {
                let node = &self.nodes[*to];
                if node.mode & MODE_TYPE == MODE_DIRECTORY {
                    waiting.push(*to);
                } else if self.may(node, who, 4)
                    && !refused.contains(&node.ino)
                    && suffix.is_none_or(|suffix| name.as_bytes().ends_with(suffix))
                {
                    found.insert(*to);
                }
            }
        }
        found
    }

    /// Compares a search with the oracle. Returns the plan and how many hits there were.
    fn compare(&mut self, exact: bool) -> (SearchPlan, u64) {
        let groups = [self.rng.below(4) as u32 + 10, 12];
        let credentials = match self.rng.below(5) {
            0 => None,
            1 => Some(Credentials { uid: 0, gid: 0, groups: &[], lists: true }),
            _ => Some(Credentials {
                uid: self.rng.below(3) as u32 + 1,
                gid: self.rng.below(4) as u32 + 10,
                groups: &groups[..self.rng.below(3) as usize],
                lists: true,
            }),
        };
        let directories: Vec<_> = (0..self.nodes.len())
            .filter(|at| self.nodes[*at].mode & MODE_TYPE == MODE_DIRECTORY)
            .collect();
        let scope = match self.rng.below(2) {
            0 => 0,
            _ => directories[self.rng.below(directories.len() as u64) as usize],
        };
        let mut refused = BTreeSet::new();
        let monitored = self.rng.below(3) == 0;
        if monitored {
            let share = 2 + self.rng.below(20);
            let nodes = self.nodes.iter().skip(self.rng.below(2) as usize);
            refused = nodes.filter(|_| self.rng.below(share) == 0).map(|node| node.ino).collect();
        }
        let mut filter = Filter::default();
        if self.rng.below(3) == 0 {
            filter.name_suffix =
                Some([&b".txt"[..], b".md", b"7.md", b""][self.rng.below(4) as usize]);
        }
        if self.rng.below(4) == 0 {
            filter.uid = Some(self.rng.below(4) as u32);
        }
        if self.rng.below(4) == 0 {
            let from = self.rng.below(100);
            filter.tag = Some(from..=from + self.rng.below(60));
        }
        let query = row(&mut self.rng, &self.shape);
        let k = 1 + self.rng.below(60) as u32;
        let mut expected: Vec<(Distance, u64, u32)> = Vec::new();
        for at in self.readable(scope, credentials.as_ref(), &refused, filter.name_suffix) {
            let node = &self.nodes[at];
            if filter.uid.is_some_and(|uid| uid != node.uid) {
                continue;
            }
            for (chunk, bytes, tag) in &node.vectors {
                if filter.tag.as_ref().is_none_or(|range| range.contains(tag)) {
                    expected.push((distance(&self.shape, &query, bytes), node.ino, *chunk));
                }
            }
        }
        expected.sort();
        let wanted = expected.len().min(k as usize);
        let monitor = Refusals::new(&self.fs, &refused);
        let request = SearchRequest {
            exact,
            scope: self.nodes[scope].ino,
            filter,
            credentials,
            monitor: monitored.then_some(&monitor),
            ..SearchRequest::nearest(self.number, &query, k)
        };
        let (report, hits) = search(&self.fs, &request);
        let plan = PLAN.get();
        assert_eq!(hits.len(), wanted, "{report:?} of {request:?}");
        let allowed: BTreeSet<_> = expected.iter().map(|(_, ino, chunk)| (*ino, *chunk)).collect();
        for hit in &hits {
            assert!(allowed.contains(&(hit.inode, hit.chunk)), "{hit:?} of {request:?}");
        }
        if exact || report.completeness == Completeness::Exact {
            let distances =
                |hits: &[SearchHit]| hits.iter().map(|h| h.distance).collect::<Vec<_>>();
            let expected: Vec<_> = expected.iter().map(|(d, _, _)| *d).take(wanted).collect();
            assert_eq!(distances(&hits), expected);
        }
        if credentials.is_some() || monitored {
            // Nothing in the report tells of what the caller may not see.
            assert_eq!((report.examined, report.unindexed), (report.hits, 0));
            let told = if exact {
                (SearchPlan::ExactAll, Completeness::Exact)
            } else {
                (SearchPlan::Graph, Completeness::Approximate)
            };
            assert_eq!((report.plan, report.completeness), told);
            // Nor does the place where a limit of work would cut.
            let monitor = Refusals::new(&self.fs, &refused);
            let few = SearchRequest {
                examined_max: 1,
                monitor: monitored.then_some(&monitor),
                ..request.clone()
            };
            assert_eq!(search(&self.fs, &few).1, hits);
        }
        (plan, report.hits)
    }
}

std::thread_local! {
    /// The plan of the thread's last search, which a caller may not be told of.
    pub(crate) static PLAN: std::cell::Cell<SearchPlan> =
        const { std::cell::Cell::new(SearchPlan::Graph) };
}

#[test]
fn searches_return_what_the_caller_could_open_and_nothing_else() {
    for seed in 0..3 {
        let mut world = World::new(seed, 40, 150, 8);
        let mut hits = 0;
        for number in 0..400 {
            hits += world.compare(number % 2 == 0).1;
        }
        assert!(hits > 2000, "the test finds too little: {hits}");
    }
}

#[test]
fn through_the_graph_rights_and_filters_give_k_hits_whenever_there_are_k() {
    let mut world = World::new(9, 60, 600, 12);
    world.fs.maintain_collection(world.number, u64::MAX, &Serial).unwrap();
    let mut plans = BTreeSet::new();
    for _ in 0..400 {
        plans.insert(world.compare(false).0);
    }
    assert!(plans.contains(&SearchPlan::ExactScope), "{plans:?}");
    assert!(plans.contains(&SearchPlan::Graph), "{plans:?}");
    assert!(plans.contains(&SearchPlan::ExactAll), "{plans:?}");
}

#[test]
fn filters_of_size_time_and_freshness() {
    let fs = format(&Memory::new(16 << 20), 12);
    let shape = shape(ElementType::U8, Metric::L2, 4);
    let number = fs.create_collection(&options("c", shape)).unwrap();
    let mut files = Vec::new();
    for at in 0..10u64 {
        let ino = crate::vector_tests::file(&fs, ROOT, &std::format!("f{at}"));
        fs.operation(1, false, |tree| {
            let mut inode = Inode::load(tree, ino)?;
            inode.size = at * 100;
            inode.modified = Timestamp { seconds: at as i64, nanoseconds: 5 };
            inode.store(tree, ino)
        })
        .unwrap();
        fs.put_vectors(number, ino, &[put(0, &[at as u8; 4])]).unwrap();
        files.push(ino);
    }
    let found = |filter: Filter<'_>| {
        let request = SearchRequest { filter, ..SearchRequest::nearest(number, &[0; 4], 100) };
        let (_, hits) = search(&fs, &request);
        let place = |hit: &SearchHit| files.iter().position(|ino| *ino == hit.inode).unwrap();
        hits.iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(found(Filter { size: Some(300..=500), ..Filter::default() }), [3, 4, 5]);
    let at = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
    let time = Some(at(2, 5)..=at(4, 4));
    assert_eq!(found(Filter { modified: time, ..Filter::default() }), [2, 3]);
    files.iter().skip(4).for_each(|ino| change_content(&fs, *ino));
    assert_eq!(found(Filter { fresh: true, ..Filter::default() }), [0, 1, 2, 3]);
    fs.put_vectors(number, files[7], &[put(0, &[7; 4])]).unwrap();
    assert_eq!(found(Filter { fresh: true, ..Filter::default() }), [0, 1, 2, 3, 7]);
    assert_eq!(found(Filter::default()).len(), 10);
    let long = [b'x'; 256];
    let filter = Filter { name_suffix: Some(&long), ..Filter::default() };
    let request = SearchRequest { filter, ..SearchRequest::nearest(number, &[0; 4], 1) };
    let error = fs.search(&request, &Serial, &mut |_, _, _| true).unwrap_err();
    assert_eq!(error, Error::NameTooLong);
}

#[test]
fn a_file_moved_or_closed_off_is_found_by_where_it_is_now() {
    let fs = format(&Memory::new(16 << 20), 12);
    let shape = shape(ElementType::U8, Metric::L2, 4);
    let number = fs.create_collection(&options("c", shape)).unwrap();
    let directory = |parent, name: &[u8]| {
        let new = NewInode { mode: MODE_DIRECTORY | 0o755, owner: (0, 0), device: 0 };
        fs.create(parent, name, &new).unwrap()
    };
    fs.set_attributes(ROOT, &SetAttributes { mode: Some(0o755), ..Default::default() }).unwrap();
    let (a, b) = (directory(ROOT, b"a"), directory(ROOT, b"b"));
    // Deep enough for any recursion to show.
    let mut deep = a;
    for _ in 0..3000 {
        deep = directory(deep, b"d");
    }
    let ino = crate::vector_tests::file(&fs, deep, "f");
    fs.put_vectors(number, ino, &[put(0, &[1; 4])]).unwrap();
    let user = Some(Credentials { uid: 5, gid: 5, groups: &[], lists: true });
    let count = |scope, credentials| {
        let request =
            SearchRequest { scope, credentials, ..SearchRequest::nearest(number, &[0; 4], 9) };
        search(&fs, &request).1.len()
    };
    assert_eq!((count(ROOT, user), count(a, user), count(b, user)), (1, 1, 0));
    fs.rename(a, b"d", b, b"moved", RenameMode::Replace).unwrap();
    assert_eq!((count(ROOT, user), count(a, user), count(b, user)), (1, 0, 1));
    fs.set_attributes(b, &SetAttributes { mode: Some(0o744), ..Default::default() }).unwrap();
    assert_eq!((count(ROOT, user), count(b, user), count(b, None)), (0, 0, 1));
    // Asked from further down, the closed directory is not on the way.
    assert_eq!(count(fs.lookup(b, b"moved").unwrap(), user), 1);
    fs.link(ino, ROOT, b"shortcut").unwrap();
    assert_eq!((count(ROOT, user), count(b, user)), (1, 0));
    fs.set_attributes(ino, &SetAttributes { mode: Some(0o600), ..Default::default() }).unwrap();
    assert_eq!((count(ROOT, user), count(ROOT, None)), (0, 1));
}

#[test]
fn an_access_list_that_is_damaged_opens_nothing() {
    let mut world = World::new(31, 0, 1, 1);
    let ino = world.nodes[1].ino;
    let set = SetAttributes { mode: Some(0o644), uid: Some(1), gid: Some(9), ..Default::default() };
    world.fs.set_attributes(ino, &set).unwrap();
    let query = row(&mut world.rng, &world.shape);
    let count_with = |uid, lists| {
        let credentials = Some(Credentials { uid, gid: 50, groups: &[], lists });
        let request =
            SearchRequest { credentials, ..SearchRequest::nearest(world.number, &query, 5) };
        search(&world.fs, &request).1.len()
    };
    let count = |uid| count_with(uid, true);
    let good = List { users: Vec::new(), owning: 4, groups: Vec::new(), mask: 4 }.bytes(0o644);
    let mut wrong_version = good.clone();
    wrong_version[0] = 3;
    let long = [&good[..], &std::vec![0; 8 * 1000]].concat();
    for (value, found) in
        [(&good[..], 1), (&wrong_version, 0), (&good[..11], 0), (&good[..0], 0), (&long, 0)]
    {
        world.fs.set_xattr(ino, b"system.posix_acl_access", value, XattrMode::Set).unwrap();
        assert_eq!(count(2), found, "a list of {} bytes", value.len());
        assert_eq!(count(1), 1, "the owner needs no list");
        assert_eq!(count_with(2, false), 1, "where lists do not count, others may read");
    }
    // One that is too long for a node of the tree counts as any other, while its bytes are whole.
    let many = (3..2000).map(|id| (id, 0)).chain([(2, 4)]).collect();
    let mut list = List { users: many, owning: 0, groups: Vec::new(), mask: 4 };
    for (permissions, found) in [(4, 1), (0, 0)] {
        list.users.last_mut().unwrap().1 = permissions;
        let value = list.bytes(0o640);
        world.fs.set_xattr(ino, b"system.posix_acl_access", &value, XattrMode::Set).unwrap();
        assert_eq!((count(2), count(3)), (found, 0));
    }
}

#[test]
fn the_paths_of_a_hit_are_those_that_the_caller_may_walk() {
    let fs = format(&Memory::new(8 << 20), 12);
    let new = |mode| NewInode { mode, owner: (0, 0), device: 0 };
    let directory =
        |parent, name: &[u8], mode| fs.create(parent, name, &new(MODE_DIRECTORY | mode)).unwrap();
    let open = Some(0o755);
    fs.set_attributes(ROOT, &SetAttributes { mode: open, ..Default::default() }).unwrap();
    let (hidden, public) = (directory(ROOT, b"a", 0o700), directory(ROOT, b"b", 0o755));
    let below = directory(public, b"c", 0o755);
    let file = fs.create(hidden, b"plan", &new(MODE_FILE | 0o644)).unwrap();
    fs.link(file, below, b"z").unwrap();
    let paths_for = |scope, caller: Caller<'_>| {
        let mut paths: Vec<String> = Vec::new();
        fs.paths(file, scope, caller, &Serial, &mut |path| {
            paths.push(String::from_utf8(path.to_vec()).unwrap());
            true
        })
        .unwrap();
        paths.sort();
        paths
    };
    let paths = |scope, credentials: Option<&Credentials<'_>>| paths_for(scope, credentials.into());
    let caller = Credentials { uid: 1000, gid: 1000, groups: &[], lists: true };
    assert_eq!(paths(ROOT, None), ["/a/plan", "/b/c/z"]);
    assert_eq!(paths(ROOT, Some(&caller)), ["/b/c/z"]);
    assert_eq!(paths(below, None), ["/z"]);
    assert!(paths(hidden, Some(&caller)).is_empty());
    // A monitor closes one way or the other, and is not asked of what lies outside.
    let refused = BTreeSet::from([public]);
    let monitored = |scope, credentials| {
        let monitor = Refusals::new(&fs, &refused);
        let paths = paths_for(scope, Caller { credentials, monitor: Some(&monitor) });
        let may = fs.may_read(
            file,
            scope,
            Caller { credentials, monitor: Some(&Refusals::new(&fs, &refused)) },
        );
        assert_eq!(may, Ok(!paths.is_empty()));
        (paths, monitor.asked.into_inner())
    };
    assert_eq!(monitored(ROOT, None).0, ["/a/plan"]);
    assert!(monitored(ROOT, Some(&caller)).0.is_empty());
    assert_eq!(monitored(below, Some(&caller)), (["/z".into()].into(), [below].into()));
    // What lies below a closed directory is not asked of.
    assert!(!monitored(ROOT, Some(&caller)).1.contains(&below));
}

#[test]
fn directories_may_be_deeper_than_any_walk_and_are_no_damage() {
    let fs = format(&Memory::new(64 << 20), 12);
    let new = |mode| NewInode { mode, owner: (0, 0), device: 0 };
    let open = Some(0o755);
    fs.set_attributes(ROOT, &SetAttributes { mode: open, ..Default::default() }).unwrap();
    let mut chain = std::vec![ROOT];
    for _ in 0..DIRECTORY_DEPTH_MAX + 10 {
        let above = *chain.last().unwrap();
        chain.push(fs.create(above, b"d", &new(MODE_DIRECTORY | 0o755)).unwrap());
    }
    let deepest = *chain.last().unwrap();
    let file = fs.create(deepest, b"f", &new(MODE_FILE | 0o644)).unwrap();
    let caller = Credentials { uid: 1000, gid: 1000, groups: &[], lists: true };
    let caller = Caller::from(Some(&caller));
    assert_eq!(fs.may_read(file, ROOT, caller), Ok(false));
    assert_eq!(fs.may_read(file, chain[20], caller), Ok(true));
    let middle = fs.create(chain[100], b"f", &new(MODE_FILE | 0o644)).unwrap();
    assert_eq!(fs.may_read(middle, ROOT, caller), Ok(true));

    let paths = |number, scope| {
        let mut paths: Vec<Vec<u8>> = Vec::new();
        let mut each = |path: &[u8]| {
            paths.push(path.to_vec());
            true
        };
        fs.paths(number, scope, caller, &Serial, &mut each).map(|()| paths)
    };
    assert_eq!(paths(file, chain[20]), Err(Error::NameTooLong));
    assert_eq!(paths(file, deepest), Ok(std::vec![b"/f".to_vec()]));
    assert_eq!(paths(file, ROOT), Ok(Vec::new()));
    let path = paths(middle, ROOT).unwrap().remove(0);
    assert_eq!(path, [b"/d".repeat(100), b"/f".to_vec()].concat());

    let other = fs.create(ROOT, b"o", &new(MODE_DIRECTORY | 0o755)).unwrap();
    let moved = |from, name: &[u8], to| fs.rename(from, name, to, b"o", RenameMode::Replace);
    assert_eq!(moved(ROOT, b"o", deepest), Err(Error::NameTooLong));
    assert!(matches!(moved(chain[0], b"d", chain[9]), Err(Error::Invalid(_))));
    moved(ROOT, b"o", chain[9]).unwrap();
    assert_eq!(fs.lookup(chain[9], b"o"), Ok(other));

    // One that is its own ancestor is damage.
    let looped = chain[3000];
    fs.operation(8, true, |tree| {
        let (parent, cookie) = crate::link::first(tree, looped)?.unwrap();
        let (_, below) = crate::link::first(tree, chain[3001])?.unwrap();
        crate::link::remove(tree, looped, parent, cookie)?;
        crate::link::add(tree, looped, chain[3010], below)
    })
    .unwrap();
    assert!(fs.may_read(file, ROOT, caller).unwrap_err().is_damage());
    assert!(moved(chain[9], b"o", chain[3020]).unwrap_err().is_damage());
}

#[test]
fn names_of_a_file_are_told_of_in_steps() {
    let fs = format(&Memory::new(16 << 20), 12);
    let new = NewInode { mode: MODE_FILE | 0o644, owner: (0, 0), device: 0 };
    let file = fs.create(ROOT, b"0", &new).unwrap();
    for name in 1..5000 {
        fs.link(file, ROOT, std::format!("{name}").as_bytes()).unwrap();
    }
    let mut paths = BTreeSet::new();
    fs.paths(file, ROOT, Caller::default(), &Serial, &mut |path| paths.insert(path.to_vec()))
        .unwrap();
    assert_eq!(paths.len(), 5000);
    let mut some = 0;
    let mut each = |_: &[u8]| {
        some += 1;
        some < 3
    };
    fs.paths(file, ROOT, Caller::default(), &Serial, &mut each).unwrap();
    assert_eq!(some, 3);
}

#[test]
fn a_name_that_is_none_is_part_of_no_path_and_listed_nowhere() {
    let new = NewInode { mode: MODE_FILE | 0o644, owner: (0, 0), device: 0 };
    for wrong in [b'/', 0] {
        let fs = format(&Memory::new(8 << 20), 12);
        let number = fs.create(ROOT, b"a.b", &new).unwrap();
        fs.operation(8, true, |tree| {
            let (parent, cookie) = crate::link::first(tree, number)?.unwrap();
            let key = crate::key::Key::new(parent, crate::key::Kind::Entry, cookie);
            let mut item = tree.get(key)?.unwrap().to_vec();
            let at = item.len() - 2;
            item[at] = wrong;
            tree.put(key, &[&item])
        })
        .unwrap();
        let mut found = 0;
        let result = fs.paths(number, ROOT, Caller::default(), &Serial, &mut |_| {
            found += 1;
            true
        });
        assert!(result.unwrap_err().is_damage() && found == 0);
        let mut listed: Vec<Vec<u8>> = Vec::new();
        let result = fs.read_directory(ROOT, 0, &mut |entry| {
            listed.push(entry.name.to_vec());
            true
        });
        assert!(result.unwrap_err().is_damage());
        assert_eq!(listed, [&b"."[..], b".."]);
    }
}
