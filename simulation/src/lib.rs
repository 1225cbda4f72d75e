// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A simulated host for the VexFS core, in which everything that can go wrong goes wrong on
//! demand, and the same way again for the same seed.
//!
//! [`SimulatedDevice`] records every request; [`Trace`] derives from the record what the device may
//! hold after power was lost at any point. [`Session`] runs a seeded workload and keeps a model of
//! what every commit has to have made durable; [`observe`] reads a whole file system back to be
//! compared with it. [`allocation`] makes single allocations fail.
//!
//! A tool of the tests: nothing of the product depends on it.

pub mod allocation;
mod damage;
mod device;
mod host;
mod image;
mod model;
mod observation;
mod power;
mod random;
mod session;
pub mod vector;
mod workload;

pub use damage::{Lie, damage, lies};
pub use device::{Event, Fault, FlushHook, Request, SimulatedDevice};
pub use host::{SimulatedClock, format, format_options, host};
pub use image::{Image, PAGE_BYTES, SECTOR_BYTES};
pub use model::{Content, Node, State, Vector};
pub use observation::{
    Observation, WholeCopy, check_device, check_older_state, copies_of, observe, observe_device,
};
pub use power::{CrashState, Trace};
pub use random::{Blob, SeededRandom, rounds, seed, spread};
pub use session::{Point, Session, is_environment};
pub use workload::{Change, Workload};
