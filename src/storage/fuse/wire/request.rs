//! Reading a request.

use super::abi::IN_HEADER;
use rustix::io::Errno;
use std::ffi::CStr;

/// Who asks: ids in the user namespace of the mount. The kernel tells them where
/// something is made; else it may leave them out (`FUSE_INVALID_UIDGID`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// As [`Header::client`].
    pub(crate) thread: u32,
}

/// `FUSE_INVALID_UIDGID`.
const LEFT_OUT: u32 = u32::MAX;

impl Caller {
    /// The ids, those left out as proc_pid_status(5) has them; none of who is not seen.
    pub(crate) fn ids(self) -> Option<(u32, u32)> {
        if self.uid != LEFT_OUT {
            return Some((self.uid, self.gid));
        }
        if self.thread == 0 {
            return None;
        }
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.thread)).ok()?;
        // Real, effective, saved, and that for file systems.
        let of = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_ascii_whitespace().nth(3)?.parse().ok()
        };
        Some((of("Uid:")?, of("Gid:")?))
    }
}

/// `struct fuse_in_header`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) opcode: u32,
    pub(super) unique: u64,
    pub(super) node: u64,
    pub(super) caller: Caller,
    /// The thread that asks, in this process's pid namespace; 0 where it is not
    /// seen there, or is the kernel's.
    pub(super) client: u32,
}

impl Header {
    /// The header and what follows it; `None` for what is no whole request.
    pub(super) fn split(bytes: &[u8]) -> Option<(Self, Fields<'_>)> {
        let mut fields = Fields(bytes);
        let length = fields.u32().ok()? as usize;
        let (opcode, unique, node) = (fields.u32().ok()?, fields.u64().ok()?, fields.u64().ok()?);
        let (uid, gid, client) = (fields.u32().ok()?, fields.u32().ok()?, fields.u32().ok()?);
        let header = Self { opcode, unique, node, caller: Caller { uid, gid, thread: client }, client };
        (length == bytes.len() && length >= IN_HEADER).then(|| (header, Fields(&bytes[IN_HEADER..])))
    }
}

/// The fields of a request, one after the other. A request that ends too early
/// is answered with EIO: the kernel and this server disagree.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Errno> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Errno::IO)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn skip(&mut self, count: usize) -> Result<(), Errno> {
        self.take(count).map(drop)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Errno> {
        let bytes = self.take(4)?.try_into().map_err(|_| Errno::IO)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Errno> {
        let bytes = self.take(8)?.try_into().map_err(|_| Errno::IO)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// A name in a directory. Linux sends no other than of one component; one
    /// that would lead elsewhere is refused all the same.
    pub(super) fn name(&mut self) -> Result<&'a CStr, Errno> {
        let name = self.text()?;
        let bytes = name.to_bytes();
        let leads_elsewhere = matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/');
        if leads_elsewhere { Err(Errno::IO) } else { Ok(name) }
    }

    /// What a link says, or an attribute is called: up to and without the NUL byte.
    pub(super) fn text(&mut self) -> Result<&'a CStr, Errno> {
        let text = CStr::from_bytes_until_nul(self.0).map_err(|_| Errno::IO)?;
        self.skip(text.count_bytes() + 1)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_whole_or_not_at_all() {
        let mut bytes = Vec::new();
        for word in [46_u32, 1] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [77_u64, 1] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [5_u32, 6, 99, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(b"name\0");
        assert!(Header::split(&bytes).is_none(), "a byte is missing");
        bytes.push(b'x');
        let (header, mut fields) = Header::split(&bytes).expect("whole");
        assert_eq!((header.opcode, header.unique, header.node), (1, 77, 1));
        assert_eq!(header.caller, Caller { uid: 5, gid: 6, thread: 99 });
        assert_eq!(header.caller.ids(), Some((5, 6)));
        assert_eq!(fields.name(), Ok(c"name"));
        assert_eq!(fields.name(), Err(Errno::IO), "no NUL");
        assert_eq!(fields.u32(), Err(Errno::IO));
        for cut in 0..bytes.len() {
            assert!(Header::split(&bytes[..cut]).is_none());
        }
    }

    #[test]
    fn ids_that_are_left_out_are_the_thread_s() {
        let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        let left_out = Caller { uid: LEFT_OUT, gid: LEFT_OUT, thread };
        let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        assert_eq!(left_out.ids(), Some(me));
        assert_eq!(Caller { thread: 0, ..left_out }.ids(), None, "the kernel itself");
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for name in ["", ".", "..", "../x", "/", "a/b"] {
            let bytes = [name.as_bytes(), b"\0"].concat();
            assert_eq!(Fields(&bytes).name(), Err(Errno::IO), "{name:?}");
            assert!(Fields(&bytes).text().is_ok(), "{name:?}");
        }
        assert_eq!(Fields(b"...\0").name(), Ok(c"..."));
    }
}
