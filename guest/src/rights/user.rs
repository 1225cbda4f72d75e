// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Those who ask.

use crate::labels;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use vexfs_simulation::SeededRandom;

/// Users and groups that own files and are named in lists.
pub const UIDS: [u32; 6] = [0, 1001, 1002, 1003, 1004, 70_000];
pub const GIDS: [u32; 6] = [0, 2001, 2002, 2003, 2004, 4_000_000_000];

/// Who somebody is, and what that one may do all the same.
pub struct User {
    pub name: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    capabilities: CapabilitySet,
    /// Its label, if it has one that others have not.
    label: Option<&'static str>,
}

impl User {
    /// One of no group that others have.
    pub fn ordinary(uid: u32) -> Self {
        let (groups, capabilities) = (Vec::new(), CapabilitySet::empty());
        Self { name: format!("user {uid}"), uid, gid: uid, groups, capabilities, label: None }
    }

    /// All of them with labels, and some whom these do not bind.
    pub fn all_labelled(random: &mut SeededRandom) -> Vec<Self> {
        let mut users = Self::all(random);
        users.extend(Self::all(random));
        for (at, user) in users.iter_mut().enumerate() {
            let label = labels::OF_THREADS[at % labels::OF_THREADS.len()];
            user.label = Some(label);
            user.name = format!("{label} {}", user.name);
            if random.percent(10) {
                user.capabilities |= CapabilitySet::MAC_OVERRIDE;
                user.name = format!("unbound {}", user.name);
            }
        }
        users
    }

    /// Ordinary ones of every kind, and some of whom permissions are not asked.
    pub fn all(random: &mut SeededRandom) -> Vec<Self> {
        let read = CapabilitySet::DAC_READ_SEARCH;
        let all = CapabilitySet::DAC_OVERRIDE;
        let none = CapabilitySet::empty();
        let mut users = Vec::new();
        let mut add = |name: &str, uid, gid, groups: Vec<u32>, capabilities| {
            let name = format!("{name} ({uid}:{gid} {} groups)", groups.len());
            users.push(Self { name, uid, gid, groups, capabilities, label: None });
        };
        for uid in UIDS.into_iter().skip(1).chain([555]) {
            let gid = GIDS[random.below(6) as usize];
            let groups = GIDS.into_iter().filter(|_| random.percent(30)).collect();
            add("a user", uid, gid, groups, none);
        }
        add("one of many groups", 1001, 3000, (5000..5400).chain([2003]).collect(), none);
        add("root of no power", 0, 0, Vec::new(), none);
        add("root who may only own", 0, 2001, vec![2002], CapabilitySet::FOWNER);
        add("root who may read", 0, 0, Vec::new(), read);
        add("root who may all", 0, 0, Vec::new(), all | read);
        add("a user who may override", 1002, 2001, Vec::new(), all);
        add("a user who may read", 1001, 2001, Vec::new(), read);
        users
    }

    /// Whether no permission to read or search is asked of this one.
    pub fn is_privileged(&self) -> bool {
        self.capabilities.intersects(CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE)
    }

    /// Makes the calling thread this user's, for good.
    pub fn become_it(&self) {
        let groups: Vec<Gid> = self.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        if let Some(label) = self.label {
            labels::become_labelled(label);
        }
        rustix::thread::set_thread_groups(&groups).expect("setgroups");
        rustix::thread::set_thread_res_gid(gid, gid, gid).expect("setresgid");
        rustix::thread::set_keep_capabilities(true).expect("keep capabilities");
        rustix::thread::set_thread_res_uid(uid, uid, uid).expect("setresuid");
        let capabilities = CapabilitySets {
            effective: self.capabilities,
            permitted: self.capabilities,
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, capabilities).expect("capset");
        assert_eq!(rustix::process::geteuid(), uid);
    }
}
