// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Work on behalf of another user, whose rights the kernel judges by the thread that asks it.

use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use std::thread;
use vexfs_core::Credentials;

/// Does the work with the rights of a user, of which there is no way back: in a thread of its own,
/// with which they end. Without credentials it is done as it is.
///
/// Errors: what the kernel says to the change, which is `EPERM` for all but root.
pub(crate) fn on_behalf_of<T: Send>(
    credentials: Option<&Credentials<'_>>,
    work: impl FnOnce() -> T + Send,
) -> rustix::io::Result<T> {
    let Some(Credentials { uid, gid, groups, .. }) = credentials.copied() else {
        return Ok(work());
    };
    thread::scope(|scope| {
        let work = || become_user(uid, gid, groups).map(|()| work());
        let started = thread::Builder::new().spawn_scoped(scope, work);
        let started = started.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN));
        // It only panics if the work does.
        started?.join().unwrap_or(Err(Errno::INTR))
    })
}

/// Takes on the rights of a user, in this thread alone.
fn become_user(uid: u32, gid: u32, groups: &[u32]) -> rustix::io::Result<()> {
    // To the kernel that number means no change.
    if [uid, gid].iter().chain(groups).any(|number| *number == u32::MAX) {
        return Err(Errno::INVAL);
    }
    let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    if uid.is_root() {
        return Ok(());
    }
    // They go with the user only where that was root, and nobody has asked for them to stay.
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{getegid, geteuid, getgroups};
    use rustix::thread::capabilities;
    use std::fs::File;
    use std::io::ErrorKind;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_user_has_their_own_rights_in_their_thread_alone() {
        let before = (geteuid(), getegid(), getgroups().unwrap(), capabilities(None).unwrap());
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
        let path = directory.path().join("closed");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let groups = [1000, 77];
        let credentials = Credentials { uid: 1000, gid: 1000, groups: &groups, lists: true };
        let asked = on_behalf_of(Some(&credentials), || {
            let numbers: Vec<u32> =
                getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
            let opened = File::open(&path).map_err(|error| error.kind());
            (geteuid().as_raw(), getegid().as_raw(), numbers, opened.err())
        });
        match before.0.is_root() {
            true => {
                let (uid, gid, mut groups, opened) = asked.unwrap();
                groups.sort_unstable();
                assert_eq!((uid, gid, groups), (1000, 1000, vec![77, 1000]));
                assert_eq!(opened, Some(ErrorKind::PermissionDenied));
            }
            false => assert_eq!(asked.err(), Some(Errno::PERM)),
        }
        assert!(File::open(&path).is_ok());
        assert_eq!(on_behalf_of(None, geteuid), Ok(before.0));
        let after = (geteuid(), getegid(), getgroups().unwrap(), capabilities(None).unwrap());
        assert_eq!(after, before);
    }

    #[test]
    fn nobody_is_the_user_that_means_no_change() {
        for (uid, gid, group) in [(u32::MAX, 1, 1), (1, u32::MAX, 1), (1, 1, u32::MAX)] {
            let groups = [group];
            let credentials = Credentials { uid, gid, groups: &groups, lists: true };
            assert_eq!(on_behalf_of(Some(&credentials), || ()), Err(Errno::INVAL));
        }
    }
}
