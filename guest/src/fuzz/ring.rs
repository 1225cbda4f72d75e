// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The commands by io_uring.

use io_uring::{IoUring, opcode, types::Fd};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd};

pub struct Ring(IoUring);

impl Ring {
    pub fn new() -> Self {
        Self(IoUring::new(8).expect("io_uring"))
    }

    /// Gives a command and waits for its end.
    ///
    /// # Safety
    /// As for [`crate::commands::give_raw`].
    pub unsafe fn give(&mut self, file: impl AsFd, number: u32, pointer: u64) -> Result<(), Errno> {
        let mut data = [0; 16];
        data[..8].copy_from_slice(&pointer.to_le_bytes());
        let entry = opcode::UringCmd16::new(Fd(file.as_fd().as_raw_fd()), number).cmd(data).build();
        // SAFETY: the file is open until the command has ended; the caller's word on the pointer.
        unsafe { self.0.submission().push(&entry) }.expect("room for one");
        self.0.submit_and_wait(1).expect("submitted");
        let result = self.0.completion().next().expect("its end").result();
        match result {
            0 => Ok(()),
            error => {
                assert!(error < 0, "what command {number:#x} returns: {error}");
                Err(Errno::from_raw_os_error(-error))
            }
        }
    }
}
