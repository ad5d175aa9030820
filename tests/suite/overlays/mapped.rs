//! Writing through a mapping.

use super::tree::Outcome;
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Writes as much of `bytes` as the file is long, through a shared mapping.
#[allow(unsafe_code, reason = "nothing else maps a file")]
pub(super) fn write(fd: BorrowedFd<'_>, offset: u64, bytes: &[u8]) -> Outcome {
    let size = usize::try_from(rustix::fs::fstat(fd)?.st_size).unwrap();
    let start = usize::try_from(offset).unwrap().min(size);
    let count = bytes.len().min(size - start);
    if count == 0 {
        return Ok("nothing".into());
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the kernel chooses the place; nothing else is there.
    let map =
        unsafe { libc::mmap(std::ptr::null_mut(), size, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
    if map == libc::MAP_FAILED {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap());
    }
    // SAFETY: the mapping is `size` bytes long and the file is not made shorter
    // meanwhile; it is ours alone, and unmapped once.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), map.cast::<u8>().add(start), count);
        libc::munmap(map, size);
    }
    Ok(count.to_string())
}
