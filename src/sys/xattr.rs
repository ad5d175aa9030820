//! Extended attributes of open files: xattr(7).

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The names of all attributes that the caller may see.
pub(crate) fn list(file: impl AsFd) -> io::Result<Vec<CString>> {
    let text = grow(|buffer| rustix::fs::flistxattr(file.as_fd(), buffer))?;
    Ok(text
        .split_inclusive(|byte| *byte == 0)
        .filter_map(|name| CString::from_vec_with_nul(name.to_vec()).ok())
        .collect())
}

/// The value of `name`; `None` where the file has no such attribute.
pub(crate) fn get(file: impl AsFd, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    match grow(|buffer| rustix::fs::fgetxattr(file.as_fd(), name, buffer)) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where to reach attributes of what is open by O_PATH alone, and of what it has.
pub(crate) fn path(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Whether the file `file` of `dir`, not followed, has the attribute `name`.
pub(crate) fn has_at(dir: BorrowedFd<'_>, file: &[u8], name: &CStr) -> bool {
    let path = [path(dir).as_bytes(), b"/", file].concat();
    rustix::fs::lgetxattr(path, name, &mut [0; 8]).is_ok_and(|length| length > 0)
}

/// Sets `name`, whether or not it was there.
pub(crate) fn set(file: impl AsFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    rustix::fs::fsetxattr(file, name, value, rustix::fs::XattrFlags::empty()).map_err(io::Error::from)
}

/// Calls with a larger buffer until it fits: at most the kernel's 64 KiB
/// (XATTR_SIZE_MAX, XATTR_LIST_MAX).
fn grow(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    for size in [256, 4 << 10, 64 << 10] {
        let mut buffer = vec![0; size];
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(rustix::io::Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::from_raw_os_error(libc::E2BIG))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_any_size_come_back() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let value = vec![7_u8; 3000];
        match set(file.as_file(), c"user.test", &value) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                eprintln!("skipped: no user attributes on this file system");
                return;
            }
            result => result.expect("set"),
        }
        assert_eq!(get(file.as_file(), c"user.test").expect("get"), Some(value));
        assert_eq!(get(file.as_file(), c"user.other").expect("get"), None);
        assert!(list(file.as_file()).expect("list").contains(&c"user.test".to_owned()));
    }
}
