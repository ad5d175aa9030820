//! seccomp(2).

use std::io;

/// What the kernel takes at most: BPF_MAXINSNS of include/uapi/linux/bpf_common.h.
pub(crate) const MAX_INSTRUCTIONS: usize = 4096;

/// SECCOMP_SET_MODE_FILTER: puts `program` in front of every system call that
/// this thread and its children make from now on. `flags` are
/// SECCOMP_FILTER_FLAG_*. Since Linux 3.17.
///
/// # Errors
/// EACCES: neither no_new_privs is set nor has the caller CAP_SYS_ADMIN in its
/// user namespace. EINVAL: not a valid program, or an unknown flag. ENOMEM: all filters
/// of this thread together are longer than 32768 instructions.
pub(crate) fn set_filter(program: &[libc::sock_filter], flags: u32) -> io::Result<()> {
    if program.is_empty() || program.len() > MAX_INSTRUCTIONS {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let program =
        libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` and the instructions that it points to live through the
    // call; the kernel copies them and writes to neither.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            libc::c_ulong::from(flags),
            &raw const program,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
