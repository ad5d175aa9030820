//! Giving memory back.

use std::ops::Range;

/// Gives back what a process no longer needs that waits from now on: pages of
/// its program, which the kernel maps in pieces of 64 KiB around each page that
/// start-up touched, and freed pieces of the heap. What is needed later after
/// all comes back from the page cache, a page fault each.
pub(crate) fn settle() {
    let Ok(text) = std::fs::read_to_string("/proc/self/smaps") else { return };
    for range in clean_file_mappings(&text) {
        // SAFETY: every page of the range comes unchanged from a file and can
        // not be written to (see below), so that the page which the kernel puts
        // there at the next access has the same bytes. madvise(2) leaves alone
        // what is not mapped.
        unsafe {
            libc::madvise(range.start as *mut libc::c_void, range.end - range.start, libc::MADV_DONTNEED)
        };
    }
    trim();
}

/// Gives back what is free of the heap: malloc_trim(3).
pub(crate) fn trim() {
    // SAFETY: malloc_trim has no preconditions.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// The mappings of /proc/PID/smaps (proc_pid_smaps(5)) that cannot be written
/// to, lie in a file, and have no page of their own, as relocated data has.
fn clean_file_mappings(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("Anonymous:"), Some("0")) => found.extend(candidate.take()),
            (Some("Anonymous:"), _) => candidate = None,
            (Some(first), Some(mode)) if !first.ends_with(':') => {
                let inode = words.nth(2).unwrap_or("0");
                candidate = range(first).filter(|_| mode.as_bytes().get(1) == Some(&b'-') && inode != "0");
            }
            _ => {}
        }
    }
    found
}

fn range(text: &str) -> Option<Range<usize>> {
    let (start, end) = text.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?).filter(|range| !range.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_read_only_pages_of_files_are_chosen() {
        let smaps = "\
1000-2000 r--p 00000000 fe:00 18857                   /usr/bin/coracle\n\
Rss:                   4 kB\nAnonymous:             0 kB\nVmFlags: rd mr\n\
2000-4000 r-xp 00001000 fe:00 18857                   /usr/bin/coracle\n\
Anonymous:             0 kB\n\
4000-5000 r--p 00003000 fe:00 18857                   /usr/bin/coracle\n\
Anonymous:             4 kB\n\
5000-6000 rw-p 00004000 fe:00 18857                   /usr/bin/coracle\n\
Anonymous:             0 kB\n\
7000-8000 r-xp 00000000 00:00 0                       [vdso]\n\
Anonymous:             0 kB\n\
bad line\nx-y r-xp 0 fe:00 1 /x\nAnonymous: 0 kB\n";
        assert_eq!(clean_file_mappings(smaps), [0x1000..0x2000, 0x2000..0x4000]);
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        settle();
        assert_eq!(format!("{}", 6 * 7), "42");
    }
}
