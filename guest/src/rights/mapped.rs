// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A mount by which files have other owners than are stored, or none.

use super::user::User;
use crate::commands::give;
use crate::support::{Mounted, c_string};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use vexfs_uapi::{CollectionCreate, CollectionDrop, Command, ELEMENT_I8, METRIC_L2};

/// What is stored and whom it stands for; of the others of the world nobody.
const UIDS: [(u32, u32); 4] = [(0, 0), (1001, 1002), (1002, 1001), (1003, 70_000)];
const GIDS: [(u32, u32); 4] = [(0, 2001), (2001, 0), (2002, 2003), (2003, 2002)];

/// The mount, for as long as this lives.
pub struct Mapped {
    pub directory: PathBuf,
}

/// The call succeeds; it returns this.
fn done(what: &str, result: libc::c_long) -> libc::c_long {
    assert!(result >= 0, "{what}: {}", std::io::Error::last_os_error());
    result
}

impl Mapped {
    /// Mounts what is mounted at `of` again, next to it.
    pub fn new(of: &Path) -> Self {
        let directory = of.with_extension("mapped");
        fs::create_dir_all(&directory).expect("mkdir");
        // A user namespace is for the names that it gives to owners; this one's process ends here.
        let mut command = std::process::Command::new("sleep");
        command.arg("100").stdout(Stdio::null());
        // SAFETY: it calls nothing that could wait for another thread.
        unsafe {
            command.pre_exec(|| match libc::unshare(libc::CLONE_NEWUSER) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let mut sleeper = command.spawn().expect("sleep");
        let process = PathBuf::from(format!("/proc/{}", sleeper.id()));
        for (name, pairs) in [("uid_map", UIDS), ("gid_map", GIDS)] {
            let lines = pairs.map(|(stored, seen)| format!("{stored} {seen} 1\n"));
            fs::write(process.join(name), lines.concat()).expect(name);
        }
        let names = File::open(process.join("ns/user")).expect("a user namespace");
        let (from, to) = (c_string(of), c_string(&directory));
        let attributes = libc::mount_attr {
            attr_set: libc::MOUNT_ATTR_IDMAP,
            attr_clr: 0,
            propagation: 0,
            userns_fd: names.as_raw_fd() as u64,
        };
        let size = size_of_val(&attributes);
        let at = libc::AT_FDCWD;
        // SAFETY: strings and structure live through the calls.
        unsafe {
            let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
            let tree = libc::syscall(libc::SYS_open_tree, at, from.as_ptr(), flags);
            let tree = done("open_tree", tree) as i32;
            let (empty, none) = (libc::AT_EMPTY_PATH, c"".as_ptr());
            let set = libc::SYS_mount_setattr;
            done(
                "mount_setattr",
                libc::syscall(set, tree, none, empty, &raw const attributes, size),
            );
            let (how, movement) = (libc::MOVE_MOUNT_F_EMPTY_PATH, libc::SYS_move_mount);
            done("move_mount", libc::syscall(movement, tree, none, at, to.as_ptr(), how));
            libc::close(tree);
        }
        sleeper.kill().expect("kill");
        sleeper.wait().expect("wait");
        Self { directory }
    }

    /// Whom a stored owner stands for.
    pub fn seen(uid: u32) -> Option<u32> {
        UIDS.iter().find(|(stored, _)| *stored == uid).map(|(_, seen)| *seen)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the path lives through the call.
        unsafe { libc::umount2(c_string(&self.directory).as_ptr(), 0) };
    }
}

/// The owner of the root makes and drops collections, also by a mount that has the root and says it is
/// another's; one that has a part of the file system tells nothing of the root.
pub fn owners_make_collections(mounted: &Mounted) {
    mounted.mount("");
    let top = &mounted.directory;
    let part = top.join("part");
    fs::create_dir(&part).expect("mkdir");
    let (stored, seen) = UIDS[1];
    std::os::unix::fs::chown(top, Some(stored), None).expect("chown");
    std::os::unix::fs::chown(&part, Some(stored), None).expect("chown");
    let (mapped_top, mapped_part) = (Mapped::new(top), Mapped::new(&part));
    let may = |uid, directory: &Path| {
        let file = File::open(directory).expect("open");
        let work = move || {
            User::ordinary(uid).become_it();
            let mut create = CollectionCreate::new();
            create.collection.name[0] = b'c';
            create.collection.element = ELEMENT_I8;
            create.collection.metric = METRIC_L2;
            create.collection.dimension = 4;
            // SAFETY: it holds no address.
            let made = unsafe { give(&file, &mut create) };
            let mut dropped = CollectionDrop::new();
            dropped.number = create.collection.number;
            match made {
                // SAFETY: as above.
                Ok(_) => unsafe { give(&file, &mut dropped) }.map(|_| true).expect("drop"),
                Err(error) => {
                    assert_eq!(error, rustix::io::Errno::PERM);
                    false
                }
            }
        };
        std::thread::spawn(work).join().expect("a user")
    };
    assert!(may(stored, top) && may(stored, &part));
    assert!(!may(seen, top) && !may(seen, &part));
    assert!(may(seen, &mapped_top.directory) && !may(stored, &mapped_top.directory));
    assert!(!may(seen, &mapped_part.directory) && !may(stored, &mapped_part.directory));
    drop((mapped_top, mapped_part));
    std::os::unix::fs::chown(top, Some(0), None).expect("chown");
    mounted.unmount();
}
