// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A block device in memory that records what it is asked to do, and fails when told to.

use crate::allocation::exempt;
use crate::image::{Image, PAGE_BYTES, SECTOR_BYTES};
use crate::power::Trace;
use std::sync::{Arc, Mutex, MutexGuard};
use vexfs_core::{BlockDevice, DeviceError};

/// A request that changes what is, or will be, durable.
#[derive(Clone)]
pub enum Event {
    /// Bytes written, not yet durable.
    Write {
        /// Where, in bytes.
        offset: u64,
        /// What.
        data: Arc<[u8]>,
    },
    /// All writes before it are durable.
    Flush,
    /// A range that may read as anything from now on.
    Discard {
        /// Where, in bytes.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
}

/// Kinds of requests, to say which fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// [`BlockDevice::read`].
    Read,
    /// [`BlockDevice::write`].
    Write,
    /// [`BlockDevice::flush`].
    Flush,
    /// [`BlockDevice::discard`].
    Discard,
}

/// Which requests fail, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The kind that fails; `None` is all kinds, as when a device is unplugged.
    pub request: Option<Request>,
    /// How many such requests succeed before.
    pub after: u64,
    /// How many fail then.
    pub times: u64,
    /// The error that they fail with.
    pub errno: i32,
}

impl Fault {
    /// The request number `after` of this kind, counting from 0, fails with `EIO`, once.
    pub fn once(request: Request, after: u64) -> Self {
        Self { request: Some(request), after, times: 1, errno: 5 }
    }

    /// The same, and all later ones of the kind.
    pub fn onwards(request: Request, after: u64) -> Self {
        Self { times: u64::MAX, ..Self::once(request, after) }
    }

    /// The device is gone, with `ENXIO`, after so many requests of any kind.
    pub fn unplugged(after: u64) -> Self {
        Self { request: None, after, times: u64::MAX, errno: 6 }
    }
}

struct Inner {
    live: Image,
    initial: Image,
    recording: bool,
    events: Vec<Event>,
    /// Requests of every kind so far, in the order of [`Request`].
    requests: [u64; 4],
    fault: Option<Fault>,
    failed: u64,
    /// Ranges that cannot be read, by start and end.
    unreadable: Vec<(u64, u64)>,
    flush_hook: Option<FlushHook>,
}

/// What happens elsewhere while a flush is under way; it is told how many flushes there were.
pub type FlushHook = Arc<dyn Fn(u64) + Send + Sync>;

/// A device in memory. Clones share it.
#[derive(Clone)]
pub struct SimulatedDevice {
    inner: Arc<Mutex<Inner>>,
}

impl SimulatedDevice {
    /// A device of zeros that records nothing yet.
    pub fn new(bytes: u64) -> Self {
        Self::with_image(Image::new(bytes))
    }

    /// A device that holds `image`.
    pub fn with_image(image: Image) -> Self {
        let inner = Inner {
            live: image.clone(),
            initial: image,
            recording: false,
            events: Vec::new(),
            requests: [0; 4],
            fault: None,
            failed: 0,
            unreadable: Vec::new(),
            flush_hook: None,
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test thread panics while it holds the device")
    }

    /// Starts a new record; what the device holds now counts as durable.
    pub fn record(&self) {
        let mut inner = self.inner();
        inner.initial = inner.live.clone();
        inner.events.clear();
        inner.recording = true;
    }

    /// The record so far.
    pub fn trace(&self) -> Trace {
        let inner = self.inner();
        Trace { initial: inner.initial.clone(), events: inner.events.clone() }
    }

    /// How many events the record holds.
    pub fn event_count(&self) -> usize {
        self.inner().events.len()
    }

    /// What the device holds now, durable or not.
    pub fn image(&self) -> Image {
        self.inner().live.clone()
    }

    /// Requests of this kind so far, failed ones among them.
    pub fn requests(&self, request: Request) -> u64 {
        self.inner().requests[request as usize]
    }

    /// Writes, flushes and discards so far.
    pub fn changing_requests(&self) -> u64 {
        self.inner().requests[1..].iter().sum()
    }

    /// Makes requests from now on fail as `fault` says, or none.
    pub fn inject(&self, fault: Option<Fault>) {
        let mut inner = self.inner();
        inner.fault = fault;
        inner.failed = 0;
    }

    /// Makes a range fail to be read, with `EIO`, from now on.
    pub fn make_unreadable(&self, offset: u64, length: u64) {
        self.inner().unreadable.push((offset, offset + length));
    }

    /// Calls `hook` with each flush from now on, before it is done: others may use the file system
    /// meanwhile, from other threads, as far as its locks let them.
    pub fn on_flush(&self, hook: Option<FlushHook>) {
        self.inner().flush_hook = hook;
    }

    /// How many requests have failed since the last [`SimulatedDevice::inject`].
    pub fn failed_requests(&self) -> u64 {
        self.inner().failed
    }
}

impl Inner {
    /// Counts a request; its error, if it is one to fail.
    fn admit(&mut self, request: Request, offset: u64) -> Result<(), DeviceError> {
        self.requests[request as usize] += 1;
        let Some(fault) = &mut self.fault else { return Ok(()) };
        if fault.request.is_some_and(|kind| kind != request) {
            return Ok(());
        }
        if fault.after > 0 {
            fault.after -= 1;
            return Ok(());
        }
        if fault.times == 0 {
            return Ok(());
        }
        fault.times -= 1;
        self.failed += 1;
        Err(DeviceError { errno: fault.errno, offset })
    }

    fn note(&mut self, event: Event) {
        if self.recording {
            self.events.push(event);
        }
    }

    fn check_range(&self, offset: u64, length: u64) {
        let page = PAGE_BYTES as u64;
        assert!(
            offset.is_multiple_of(page) && length.is_multiple_of(page),
            "request not in whole pages"
        );
        assert!(offset + length <= self.live.size_bytes(), "request beyond the device's end");
    }
}

impl BlockDevice for SimulatedDevice {
    fn size_bytes(&self) -> u64 {
        self.inner().live.size_bytes()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        let mut inner = self.inner();
        inner.check_range(offset, buffer.len() as u64);
        inner.admit(Request::Read, offset)?;
        let end = offset + buffer.len() as u64;
        if inner.unreadable.iter().any(|range| range.0 < end && offset < range.1) {
            inner.failed += 1;
            return Err(DeviceError { errno: 5, offset });
        }
        inner.live.read(offset, buffer);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        exempt(|| {
            let mut inner = self.inner();
            inner.check_range(offset, data.len() as u64);
            let admitted = inner.admit(Request::Write, offset);
            // A write that fails may have been done in part: here the first half of its sectors.
            let sectors = data.len() / SECTOR_BYTES;
            let done = match admitted {
                Ok(()) => data,
                Err(error) if error.errno == 5 => &data[..sectors / 2 * SECTOR_BYTES],
                Err(_) => &[],
            };
            if !done.is_empty() {
                inner.live.write(offset, done);
                inner.note(Event::Write { offset, data: done.into() });
            }
            admitted
        })
    }

    fn flush(&self) -> Result<(), DeviceError> {
        let (hook, count) = {
            let inner = self.inner();
            (inner.flush_hook.clone(), inner.requests[Request::Flush as usize])
        };
        if let Some(hook) = hook {
            hook(count);
        }
        exempt(|| {
            let mut inner = self.inner();
            inner.admit(Request::Flush, 0)?;
            inner.note(Event::Flush);
            Ok(())
        })
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), DeviceError> {
        exempt(|| {
            let mut inner = self.inner();
            inner.check_range(offset, length);
            inner.admit(Request::Discard, offset)?;
            inner.live.spoil(offset, length);
            inner.note(Event::Discard { offset, length });
            Ok(())
        })
    }
}
