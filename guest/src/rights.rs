// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Whatever a search, a listing of rows or of paths tells a user is what that user can open below the
//! directory that is asked, no more and no less: compared for many users, with what the kernel lets
//! each of them open, in a tree of random owners, modes, access control lists and links that changes
//! from round to round. `VEXFS_SEED` has another tree, `VEXFS_ROUNDS` more rounds. Where Smack runs, users and
//! files have labels too, with rules between them that change as well.

mod elsewhere;
mod mapped;
mod user;
mod world;

use crate::MountTest;
use crate::commands::{self, Answer};
use crate::labels;
use crate::support::{Mounted, where_slow};
use mapped::Mapped;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
pub use user::User;
use vexfs_simulation::SeededRandom;
use vexfs_uapi::{
    ANSWER_APPROXIMATE, ANSWER_EXACT, Command, PLAN_EXACT, PLAN_GRAPH, SEARCH_EXACT,
    SEARCH_EXCLUDE, SEARCH_FRESH, SEARCH_RADIUS, SEARCH_SIZE, SEARCH_SUFFIX, SEARCH_TAG,
    SEARCH_UID, Search,
};
use world::{DIMENSION, Name, Vector, World};

pub const TESTS: &[MountTest] = &[
    ("every_user_is_told_what_that_user_can_open", every_user_is_told_what_that_user_can_open),
    ("without_access_control_lists_modes_alone_count", modes_alone_count),
    ("a_mount_that_maps_owners_tells_what_it_opens", mapped_owners_count),
    ("root_of_a_namespace_is_told_what_it_can_open", elsewhere::root_elsewhere),
    ("collections_are_the_owners_of_the_root_as_it_is_seen", mapped::owners_make_collections),
];

/// Of labels, where Smack runs.
pub const LABEL_TESTS: &[MountTest] = &[
    ("smack_users_are_told_what_they_can_open", smack_users_are_told),
    ("smack_labels_of_the_mount_count", smack_labels_of_the_mount_count),
    ("smack_files_have_the_label_of_their_maker", smack_files_have_the_label),
];

fn every_user_is_told_what_that_user_can_open(mounted: &Mounted) {
    in_rounds(mounted, "", vexfs_simulation::rounds(where_slow(2, 3)), View::Plain);
}

fn modes_alone_count(mounted: &Mounted) {
    in_rounds(mounted, "noacl", 1, View::Plain);
}

fn mapped_owners_count(mounted: &Mounted) {
    in_rounds(mounted, "", where_slow(1, 2), View::Mapped);
}

fn smack_users_are_told(mounted: &Mounted) {
    in_rounds(mounted, "", vexfs_simulation::rounds(3), View::Labelled);
}

fn smack_labels_of_the_mount_count(mounted: &Mounted) {
    in_rounds(mounted, "smackfsroot=Red,smackfsdef=Green", 2, View::Labelled);
}

fn smack_files_have_the_label(mounted: &Mounted) {
    mounted.mount("");
    let own = mounted.directory.join("own");
    std::fs::create_dir(&own).expect("mkdir");
    labels::label(&own, "Red");
    let [file, below, left, moved] = ["file", "below", "left", "moved"].map(|name| own.join(name));
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            labels::become_labelled("Red");
            crate::support::create(&file);
            std::fs::create_dir(&below).expect("mkdir");
            crate::support::create(&left);
            let whiteout = RenameFlags::WHITEOUT;
            rustix::fs::renameat_with(CWD, &left, CWD, &moved, whiteout).expect("rename");
        });
        work.join().expect("what Red makes");
    });
    for cycled in [false, true] {
        if cycled {
            mounted.cycle();
        }
        for path in [&file, &below, &left, &moved] {
            assert_eq!(labels::label_of(path), "Red", "{}", path.display());
        }
    }
    mounted.unmount();
}

/// How users come to the files.
#[derive(Clone, Copy, PartialEq)]
enum View {
    Plain,
    Labelled,
    Mapped,
}

/// Makes a world, mounts it with `options`, and compares what all users are told, round for round.
fn in_rounds(mounted: &Mounted, options: &str, rounds: u64, view: View) {
    let labelled = view == View::Labelled;
    mounted.mount("");
    let mut random = SeededRandom::new(vexfs_simulation::seed(0x5eed_0001));
    if labelled {
        labels::set_rules(&mut random);
    }
    let mut world = World::new(&mounted.directory, &mut random, labelled);
    let users = if labelled { User::all_labelled(&mut random) } else { User::all(&mut random) };
    mounted.unmount();
    mounted.mount(options);
    let mapped = (view == View::Mapped).then(|| Mapped::new(&mounted.directory));
    let directory = mapped.as_ref().map_or(&mounted.directory, |mapped| &mapped.directory);
    let mut found = 0;
    for round in 0..rounds {
        if round > 0 {
            world.change(&mut random, options != "noacl");
        }
        if labelled && round > 0 {
            labels::set_rules(&mut random);
        }
        // Lists that the kernel has in memory, and lists that it has to read again.
        if round % 2 == 1 {
            crate::support::drop_caches();
        }
        let scopes = world.scopes(directory, &mut random);
        let seeds: Vec<u64> = users.iter().map(|_| random.number()).collect();
        std::thread::scope(|scope| {
            for (user, seed) in users.iter().zip(seeds) {
                let (world, scopes) = (&world, &scopes);
                let work = scope.spawn(move || {
                    user.become_it();
                    let mut random = SeededRandom::new(seed);
                    let mut found = 0;
                    for below in scopes {
                        // To Smack, a command whose structure goes both ways writes to the directory.
                        let told = commands::rows(&below.1, world.small, 0, 1);
                        if labelled && told.is_err_and(|error| error == rustix::io::Errno::ACCESS) {
                            continue;
                        }
                        let asked = Asked::new(world, user, view, below, round);
                        asked.compare(&mut random);
                        found += asked.vectors.len();
                    }
                    found
                });
                // One after another: threads have credentials of their own.
                found += work.join().expect("what a user is told");
            }
        });
    }
    assert!(found > users.len() * 20 * rounds as usize, "next to nothing is compared: {found}");
    drop(mapped);
    mounted.unmount();
}

/// What one user can open below one directory, as the kernel has it.
struct Asked<'a> {
    world: &'a World,
    directory: &'a File,
    what: String,
    view: View,
    /// Above permissions, as far as reading goes: counters tell of everything.
    privileged: bool,
    /// Paths that the user may walk to each file that the user can open.
    readable: BTreeMap<u64, BTreeSet<&'a str>>,
    /// Other files of the tree.
    closed: BTreeSet<u64>,
    /// Inode and chunk of each vector of the readable files.
    vectors: BTreeSet<(u64, u32)>,
}

impl<'a> Asked<'a> {
    fn new(
        world: &'a World,
        user: &User,
        view: View,
        below: &'a (String, File),
        round: u64,
    ) -> Self {
        let (path, directory) = below;
        let mut readable = BTreeMap::<u64, BTreeSet<&str>>::new();
        for Name { path: name, inode } in &world.files {
            let Some(relative) = relative(name, path) else { continue };
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            match rustix::fs::openat(directory, relative, flags, Mode::empty()) {
                Ok(_) => {
                    readable.entry(*inode).or_default().insert(relative);
                }
                Err(error) => assert_eq!(error.raw_os_error(), libc::EACCES, "{name}"),
            }
            // Whoever may walk there may look at it.
            let walked = rustix::fs::statat(directory, relative, AtFlags::SYMLINK_NOFOLLOW);
            assert!(walked.is_ok() || !readable.get(inode).is_some_and(|p| p.contains(relative)));
        }
        let closed =
            world.files.iter().map(|n| n.inode).filter(|n| !readable.contains_key(n)).collect();
        let vectors = readable
            .keys()
            .flat_map(|inode| world.vectors_of(*inode).map(|vector| (*inode, vector.chunk)))
            .collect();
        let what = format!("round {round}, {} below '{path}'", user.name);
        let privileged = user.is_privileged() && !labels::are_judged() && view != View::Mapped;
        Self { world, directory, what, view, privileged, readable, closed, vectors }
    }

    fn vector(&self, inode: u64, chunk: u32) -> &Vector {
        self.world.vectors_of(inode).find(|vector| vector.chunk == chunk).expect("a vector")
    }

    fn wanted(&self, flags: u32) -> Search {
        Search {
            flags,
            collection: self.world.small,
            k: world::SMALL_MAX,
            hits_max: world::SMALL_MAX,
            ..Search::new()
        }
    }

    fn search(&self, wanted: Search, query: &[u8], suffix: &[u8], vector_bytes: usize) -> Answer {
        let answer = commands::search(self.directory, wanted, query, suffix, vector_bytes)
            .unwrap_or_else(|error| panic!("{}: {wanted:?}: {error}", self.what));
        if !self.privileged {
            let told = &answer.told;
            assert_eq!(told.examined, answer.hits.len() as u64, "{}: counter", self.what);
            assert_eq!(told.unindexed, 0, "{}: counter", self.what);
        }
        answer
    }

    /// The hits of a query are these vectors.
    fn same(&self, how: &str, answer: &Answer, query: u32, wanted: &BTreeSet<(u64, u32)>) {
        let hits: Vec<_> = answer.hits.iter().filter(|hit| hit.query == query).collect();
        let found: BTreeSet<_> = hits.iter().map(|hit| (hit.inode, hit.chunk)).collect();
        let leaked: Vec<_> = found.difference(wanted).collect();
        let missing: Vec<_> = wanted.difference(&found).collect();
        assert!(
            leaked.is_empty() && missing.is_empty() && found.len() == hits.len(),
            "{}: {how}: leaked {:?}, missing {:?}, {} hits",
            self.what,
            self.described(&leaked),
            self.described(&missing),
            hits.len()
        );
        let nearer = |pair: &[&vexfs_uapi::Hit]| {
            f32::from_bits(pair[0].distance) <= f32::from_bits(pair[1].distance)
        };
        assert!(hits.windows(2).all(nearer), "{}: {how}: order", self.what);
    }

    fn described(&self, vectors: &[&(u64, u32)]) -> BTreeSet<&str> {
        let inodes: BTreeSet<u64> = vectors.iter().map(|(inode, _)| *inode).collect();
        let named = self.world.files.iter().filter(|name| inodes.contains(&name.inode));
        named.map(|name| name.path.as_str()).collect()
    }

    fn compare(&self, random: &mut SeededRandom) {
        let query = random.bytes(DIMENSION);
        for flags in [SEARCH_EXACT, 0] {
            let answer = self.search(self.wanted(flags), &query, b"", 0);
            self.same("all", &answer, 0, &self.vectors);
            let told = (answer.told.plan, answer.told.completeness);
            // What was done to find it would tell how much is hidden, unless it was asked for.
            let expected = match (self.privileged, flags) {
                (true, 0) => (told.0, ANSWER_EXACT),
                (_, SEARCH_EXACT) => (PLAN_EXACT, ANSWER_EXACT),
                _ => (PLAN_GRAPH, ANSWER_APPROXIMATE),
            };
            assert_eq!(told, expected, "{}", self.what);
        }
        self.compare_batch(random);
        self.compare_filters(random, &query);
        self.compare_limits(random, &query);
        self.compare_graph(&query);
        self.compare_rows(random);
        self.compare_paths();
    }

    fn compare_batch(&self, random: &mut SeededRandom) {
        let queries = random.bytes(3 * DIMENSION);
        let mut wanted = self.wanted(0);
        wanted.hits_max *= 3;
        let answer = self.search(wanted, &queries, b"", DIMENSION);
        for query in 0..3 {
            self.same("batch", &answer, query, &self.vectors);
        }
        for (hit, bytes) in answer.hits.iter().zip(answer.vectors.chunks_exact(DIMENSION)) {
            assert_eq!(bytes, self.vector(hit.inode, hit.chunk).bytes, "{}", self.what);
        }
    }

    /// Of each vector, whether a search that asks for more admits it.
    fn admitted(&self, admits: impl Fn(u64, &Vector) -> bool) -> BTreeSet<(u64, u32)> {
        let admits = |(inode, chunk): &(u64, u32)| admits(*inode, self.vector(*inode, *chunk));
        self.vectors.iter().copied().filter(admits).collect()
    }

    fn compare_filters(&self, random: &mut SeededRandom, query: &[u8]) {
        let exact = [0, SEARCH_EXACT][random.below(2) as usize];
        let suffix = [".txt", ".md", "7.txt", "1"][random.below(4) as usize];
        let named = |inode: u64| self.readable[&inode].iter().any(|path| path.ends_with(suffix));
        let answer = self.search(self.wanted(exact | SEARCH_SUFFIX), query, suffix.as_bytes(), 0);
        self.same("by name", &answer, 0, &self.admitted(|inode, _| named(inode)));

        let (low, high) = (random.below(50), 50 + random.below(50));
        let wanted = Search { tag_range: [low, high], ..self.wanted(exact | SEARCH_TAG) };
        let tagged = self.admitted(|_, vector| (low..=high).contains(&vector.tag));
        self.same("by tag", &self.search(wanted, query, b"", 0), 0, &tagged);

        let size = |inode| self.world.sizes[&inode];
        let wanted = Search { size_range: [low, high], ..self.wanted(exact | SEARCH_SIZE) };
        let sized = self.admitted(|inode, _| (low..=high).contains(&size(inode)));
        self.same("by size", &self.search(wanted, query, b"", 0), 0, &sized);

        let uid = user::UIDS[random.below(user::UIDS.len() as u64) as usize];
        let wanted = Search { uid, ..self.wanted(exact | SEARCH_UID) };
        let seen =
            |owner| if self.view == View::Mapped { Mapped::seen(owner) } else { Some(owner) };
        let owned = self.admitted(|inode, _| seen(self.world.owners[&inode]) == Some(uid));
        self.same("by owner", &self.search(wanted, query, b"", 0), 0, &owned);

        let exclude = random.pick(&self.world.files).expect("a file").inode;
        let wanted = Search { exclude, ..self.wanted(exact | SEARCH_EXCLUDE | SEARCH_FRESH) };
        let others = self.admitted(|inode, _| inode != exclude);
        self.same("without one", &self.search(wanted, query, b"", 0), 0, &others);
    }

    /// Cut short by a limit of work, an answer has nothing that is not in the whole one; where it is cut
    /// would tell how much is hidden, so that it is not for who may not see all.
    fn compare_limits(&self, random: &mut SeededRandom, query: &[u8]) {
        let examined_max = 1 + random.below(200);
        let wanted = Search { examined_max, ..self.wanted(SEARCH_EXACT) };
        let answer = self.search(wanted, query, b"", 0);
        if self.privileged {
            let known = |hit: &vexfs_uapi::Hit| self.vectors.contains(&(hit.inode, hit.chunk));
            assert!(answer.hits.iter().all(known), "{}: within a limit", self.what);
        } else {
            self.same("with a limit that is none", &answer, 0, &self.vectors);
            assert_eq!(answer.told.completeness, ANSWER_EXACT, "{}", self.what);
        }
        let squares = |bytes: &[u8]| {
            let pairs = bytes.iter().zip(query).map(|(a, b)| f32::from(*a) - f32::from(*b));
            pairs.map(|difference| difference * difference).sum::<f32>()
        };
        let radius = random.below(160_000) as f32;
        let wanted = Search { radius: radius.to_bits(), ..self.wanted(SEARCH_RADIUS) };
        let near = self.admitted(|_, vector| squares(&vector.bytes) <= radius);
        self.same("within a radius", &self.search(wanted, query, b"", 0), 0, &near);
    }

    /// A collection that has a graph: of what can be read, as many hits as are wanted.
    fn compare_graph(&self, query: &[u8]) {
        let k = 20;
        let wanted = Search { collection: self.world.large, k, hits_max: k, ..Search::new() };
        let answer = self.search(wanted, query, b"", 0);
        let inodes = answer.hits.iter().map(|hit| hit.inode);
        let leaked: BTreeSet<u64> =
            inodes.filter(|inode| !self.readable.contains_key(inode)).collect();
        assert!(leaked.is_empty(), "{}: by the graph leaked {leaked:?}", self.what);
        let there: usize = self.readable.keys().map(|inode| self.world.large_of(*inode)).sum();
        assert_eq!(answer.hits.len(), there.min(k as usize), "{}: by the graph", self.what);
    }

    fn compare_rows(&self, random: &mut SeededRandom) {
        let mut found = Vec::new();
        let most = [1, 7, 4096][random.below(3) as usize];
        let mut from = 0;
        loop {
            let (told, rows) = commands::rows(self.directory, self.world.small, from, most)
                .unwrap_or_else(|error| panic!("{}: rows: {error}", self.what));
            // Neither an empty page nor a last full one tells of rows that are hidden.
            assert!(rows.len() == most || told.more == 0, "{}: a page with a gap", self.what);
            assert!(told.from != from || told.more == 0);
            found.extend(rows.iter().map(|(vector, inode)| (*inode, vector.chunk)));
            from = told.from;
            if told.more == 0 {
                assert!(!rows.is_empty() || found.is_empty(), "{}: a row was hinted at", self.what);
                break;
            }
        }
        let count = found.len();
        let found: BTreeSet<_> = found.into_iter().collect();
        assert_eq!(count, found.len(), "{}: a row twice", self.what);
        assert!(found == self.vectors, "{}: {} rows of {count}", self.what, self.vectors.len());
    }

    fn compare_paths(&self) {
        for (inode, wanted) in &self.readable {
            let told = commands::paths(self.directory, *inode, 0)
                .unwrap_or_else(|error| panic!("{}: paths of {wanted:?}: {error}", self.what));
            let found: BTreeSet<&str> = told.iter().map(String::as_str).collect();
            assert!(found == *wanted, "{}: {found:?} and not {wanted:?}", self.what);
            assert_eq!(told.len(), wanted.len(), "{}: a path twice", self.what);
        }
        for inode in self.closed.iter().copied().chain([1 << 40]) {
            // Whatever generation is asked for.
            for generation in [0, 1] {
                let error = commands::paths(self.directory, inode, generation).expect_err("closed");
                assert_eq!(error.raw_os_error(), libc::ENOENT, "{}: {inode}", self.what);
            }
        }
    }
}

/// The path from directory `from` on, if it leads there.
fn relative<'a>(path: &'a str, from: &str) -> Option<&'a str> {
    if from.is_empty() { Some(path) } else { path.strip_prefix(from)?.strip_prefix('/') }
}
