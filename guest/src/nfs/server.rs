// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The kernel's NFS server and clients of it in the same guest, without the daemons that usually
//! help them: what the server would ask mountd it is told in advance, the registry of services is a
//! thread here, and NFSv3 clients get the handle of their root from the server itself.

use crate::support::{Mounted, c_string, run};
use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

const CONTROL: &str = "/proc/fs/nfsd";
const CACHES: [&str; 3] = ["auth.unix.ip", "nfsd.export", "nfsd.fh"];
const CLIENTS: &str = "guest";
/// When what the server is told expires: in the year 2100.
const NEVER: u64 = 4_102_444_800;
const NOBODY: u32 = 65534;
const INSECURE_PORT: u32 = 2;
const NO_SUBTREE_CHECK: u32 = 0x400;
const NUMBERED: u32 = 0x2000;
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
static NOT_EVEN_COMMIT: u32 = 2;
/// Nothing is committed but by who asks for it.
const OPTIONS: &str = "commit=3600";

/// The server, with a VexFS that it exports.
pub struct Server {
    pub mounted: Mounted,
    withdrawn: Cell<Option<Instant>>,
}

impl Server {
    /// Makes a file system and starts the server.
    pub fn new(mounted: Mounted) -> Self {
        run("ip", &["link", "set", "lo", "up"]);
        run("modprobe", &["nfsd"]);
        // What clients are lent is no matter of the file system, and having it back takes seconds.
        fs::write("/proc/sys/fs/leases-enable", "0").expect("leases");
        registry();
        // Where it writes down which clients it has.
        fs::create_dir_all("/var/lib/nfs/v4recovery").expect("mkdir");
        // The lock manager waits for the clients of an earlier one, three seconds at least.
        for (name, seconds) in [("nlm_timeout", "3"), ("nlm_grace_period", "1")] {
            fs::write(format!("/proc/sys/fs/nfs/{name}"), seconds).expect(name);
        }
        mount("nfsd", Path::new(CONTROL), "nfsd", 0, Some(b"\0"));
        mounted.format();
        mounted.mount(OPTIONS);
        let server = Self { mounted, withdrawn: Cell::new(None) };
        server.export();
        // The shortest: clients notice sooner what they have lost.
        tell(&format!("{CONTROL}/nfsv4leasetime"), "10");
        server.listen();
        server
    }

    fn listen(&self) {
        tell(&format!("{CONTROL}/portlist"), "tcp 2049");
        tell(&format!("{CONTROL}/threads"), "4");
        // Clients of an earlier server need not come back before anything else is done, but for locks.
        tell(&format!("{CONTROL}/v4_end_grace"), "Y");
    }

    /// Says that the file system is exported, as the root that NFSv4 clients begin at.
    fn export(&self) {
        tell_cache("auth.unix.ip", &format!("nfsd 127.0.0.1 {NEVER} {CLIENTS}"));
        export(&self.mounted.directory, 0, NO_SUBTREE_CHECK);
    }

    /// Forgets all exports.
    fn withdraw(&self) {
        // What is told again within the same second as that before would be kept.
        if let Some(last) = self.withdrawn.replace(None) {
            std::thread::sleep(Duration::from_millis(1100).saturating_sub(last.elapsed()));
        }
        for cache in CACHES {
            fs::write(format!("/proc/net/rpc/{cache}/flush"), "1\n").expect("flush");
        }
        self.withdrawn.set(Some(Instant::now()));
    }

    /// Unmounts the file system once the server has let go of it.
    fn unmount(&self) {
        let start = Instant::now();
        while !self.mounted.unmount_if_mounted() {
            assert!(start.elapsed() < Duration::from_secs(20), "the server does not let go");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Unmounts the file system and mounts it again, while the server goes on.
    pub fn remount(&self) {
        self.withdraw();
        // Takes from clients what they have open and locked.
        let directory = self.mounted.directory.to_str().expect("UTF-8");
        tell(&format!("{CONTROL}/unlock_filesystem"), directory);
        self.unmount();
        self.mounted.mount(OPTIONS);
        self.export();
    }

    /// The same, with a power cut before it: what was not committed is lost.
    pub fn cut_power(&self) {
        let directory = File::open(&self.mounted.directory).expect("open");
        // SAFETY: the command reads four bytes.
        let result = unsafe {
            libc::ioctl(directory.as_raw_fd(), SHUTDOWN as _, &raw const NOT_EVEN_COMMIT)
        };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        drop(directory);
        self.remount();
    }

    /// Stops the server and starts it, with the file system mounted anew.
    pub fn restart(&self) {
        tell(&format!("{CONTROL}/threads"), "0");
        self.withdraw();
        self.unmount();
        self.mounted.mount(OPTIONS);
        self.export();
        self.listen();
    }

    /// Stops the server for good, and checks what it leaves.
    pub fn end(&self) {
        tell(&format!("{CONTROL}/threads"), "0");
        self.withdraw();
        self.unmount();
        self.mounted.check();
    }
}

/// Says that a directory is exported, by a number that handles then hold.
pub fn export(directory: &Path, number: u32, flags: u32) {
    let flags = flags | INSECURE_PORT | NUMBERED;
    let directory = directory.display();
    let hex: String = number.to_ne_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    tell_cache(
        "nfsd.export",
        &format!("{CLIENTS} {directory} {NEVER} {flags} {NOBODY} {NOBODY} {number}"),
    );
    tell_cache("nfsd.fh", &format!("{CLIENTS} 1 \\x{hex} {NEVER} {directory}"));
}

/// Mounts what is exported from a directory, by a version of the protocol. Attributes are asked for
/// each time, and a server that does not answer makes operations fail in the end.
pub fn mount_client(version: u8, exported: &Path, at: &Path) {
    fs::create_dir_all(at).expect("a mount point");
    if version == 4 {
        let options = c"vers=4.2,addr=127.0.0.1,clientaddr=127.0.0.1,proto=tcp,sec=sys,actimeo=0,\
                        soft,timeo=150,retrans=2";
        mount("127.0.0.1:/", at, "nfs4", 0, Some(options.to_bytes_with_nul()));
    } else {
        mount(
            &format!("127.0.0.1:{}", exported.display()),
            at,
            "nfs",
            0,
            Some(&version_3(exported)),
        );
    }
}

/// `struct nfs_mount_data` of linux/nfs_mount.h, version 6: it has the root's handle, so that no
/// mountd is asked for it.
fn version_3(exported: &Path) -> Vec<u8> {
    const FLAGS: i32 = 0x0001 | 0x0040 | 0x0080 | 0x0200; // soft, TCP, version 3, no locks
    const TENTHS: i32 = 150;
    let handle = root_handle(exported);
    let mut data = Vec::new();
    let numbers = |data: &mut Vec<u8>, numbers: &[i32]| {
        numbers.iter().for_each(|number| data.extend(number.to_ne_bytes()));
    };
    numbers(&mut data, &[6, 0]);
    data.extend([0; 32]);
    numbers(&mut data, &[FLAGS, 0, 0, TENTHS, 2, 0, 0, 0, 0]);
    data.extend((libc::AF_INET as u16).to_ne_bytes());
    data.extend(2049u16.to_be_bytes());
    data.extend([127, 0, 0, 1]);
    data.extend([0; 8]);
    let mut host = [0; 256];
    host[..9].copy_from_slice(b"127.0.0.1");
    data.extend(host);
    numbers(&mut data, &[255, 0]);
    data.extend((handle.len() as u16).to_ne_bytes());
    data.extend(&handle);
    data.resize(data.len() + 64 - handle.len(), 0);
    // The structure is aligned like its integers.
    data.resize(data.len().next_multiple_of(4), 0);
    numbers(&mut data, &[1]);
    data.resize(data.len() + 257, 0);
    data
}

/// The handle of an exported directory, as the server tells it.
fn root_handle(exported: &Path) -> Vec<u8> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let mut file = options.open(format!("{CONTROL}/filehandle")).expect("filehandle");
    file.write_all(format!("{CLIENTS} {} 64\n", exported.display()).as_bytes()).expect("exported");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("a handle");
    let digits = text.trim().trim_start_matches("\\x");
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hexadecimal"))
        .collect()
}

/// Unmounts a client.
pub fn unmount_client(at: &Path) {
    // SAFETY: the path lives through the call.
    let result = unsafe { libc::umount2(c_string(at).as_ptr(), 0) };
    assert_eq!(result, 0, "{}: {}", at.display(), std::io::Error::last_os_error());
}

fn mount(source: &str, at: &Path, kind: &str, flags: libc::c_ulong, data: Option<&[u8]>) {
    let [source, kind] = [source, kind].map(|text| c_string(Path::new(text)));
    let data = data.map_or(std::ptr::null(), <[u8]>::as_ptr);
    // SAFETY: all are strings, or what the file system takes in their place, that live through it.
    let result = unsafe {
        libc::mount(source.as_ptr(), c_string(at).as_ptr(), kind.as_ptr(), flags, data.cast())
    };
    assert_eq!(result, 0, "{}: {}", at.display(), std::io::Error::last_os_error());
}

/// Writes a line in one piece.
fn tell(path: &str, line: &str) {
    let mut file = OpenOptions::new().write(true).open(path).expect(path);
    file.write_all(format!("{line}\n").as_bytes()).unwrap_or_else(|error| {
        panic!("{path}: {line}: {error}");
    });
}

fn tell_cache(cache: &str, line: &str) {
    tell(&format!("/proc/net/rpc/{cache}/channel"), line);
}

/// Agrees to all that services have registered, as rpcbind would. The server starts only when its
/// lock manager is registered; nobody asks for it.
fn registry() {
    let listener = TcpListener::bind("127.0.0.1:111").expect("port 111");
    std::thread::spawn(move || {
        for caller in listener.incoming().flatten() {
            std::thread::spawn(move || while agree(&caller).is_ok() {});
        }
    });
}

/// Reads one call, which comes in one fragment, and answers true.
fn agree(mut caller: &TcpStream) -> std::io::Result<()> {
    const LAST: u32 = 1 << 31;
    const REPLY: u32 = 1;
    const TRUE: u32 = 1;
    let mut word = [0; 4];
    caller.read_exact(&mut word)?;
    let mut call = vec![0; (u32::from_be_bytes(word) & !LAST) as usize];
    caller.read_exact(&mut call)?;
    let number = call.first_chunk().map_or(0, |word| u32::from_be_bytes(*word));
    // Accepted, without a verifier, with success.
    let answer = [LAST | 28, number, REPLY, 0, 0, 0, 0, TRUE];
    let bytes: Vec<u8> = answer.iter().flat_map(|word| word.to_be_bytes()).collect();
    caller.write_all(&bytes)
}
