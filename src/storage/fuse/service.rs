//! The merged tree as the transport wants it: each operation by its node.

use super::merged::Merged;
use super::wire::{
    Answer, Attr, Btime, Caller, Changes, Entry, FileSystem, New, Rename, SetXattr, Sink, Space, Writer,
};
use rustix::fs::FileType;
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::sync::Arc;

impl FileSystem for Merged {
    fn lasts(&self) -> bool {
        !self.live
    }

    fn gathers_writes(&self) -> bool {
        !self.write_through && !self.live
    }

    fn is_narrow(&self) -> bool {
        self.has_little_room()
    }

    fn may_write(&self, node: u64, thread: u32) -> Answer<()> {
        self.ask_for_room(node, thread)
    }

    fn names(&self, node: u64) -> Vec<(u64, CString)> {
        let Ok(inode) = self.inode(node) else { return Vec::new() };
        let state = inode.state();
        state.names.iter().map(|known| (known.parent.node, CString::from(&*known.name))).collect()
    }

    fn agreed(&self, all_times: bool) {
        self.times.agreed(all_times);
        if self.work.is_some() {
            self.look_for_room();
        }
    }

    fn lookup(&self, parent: u64, name: &CStr) -> Answer<Entry> {
        self.look_up(parent, name)
    }

    fn forget(&self, node: u64, count: u64) {
        self.let_go(node, count);
    }

    fn attributes(&self, node: u64) -> Answer<Attr> {
        self.attributes_of(node)
    }

    fn birth(&self, node: u64) -> Answer<(Attr, Btime)> {
        self.birth_of(node)
    }

    fn change(&self, caller: Caller, node: u64, changes: &Changes) -> Answer<Attr> {
        self.change_attributes(caller, node, changes)
    }

    fn read_link(&self, node: u64, text: &mut Vec<u8>) -> Answer<()> {
        let inode = self.inode(node)?;
        if inode.kind != FileType::Symlink {
            return Err(Errno::INVAL);
        }
        let state = inode.state();
        let target = self.at(&state, |dir, name| rustix::fs::readlinkat(dir, name, Vec::new()))?;
        text.extend_from_slice(target.to_bytes());
        Ok(())
    }

    fn make(&self, who: Caller, parent: u64, name: &CStr, new: New<'_>) -> Answer<Entry> {
        self.make_file(who, parent, name, new)
    }

    fn temporary(&self, who: Caller, parent: u64, mode: u32, umask: u32) -> Answer<Entry> {
        self.make_temporary(who, parent, mode, umask)
    }

    fn link(&self, node: u64, parent: u64, name: &CStr) -> Answer<Entry> {
        self.make_link(node, parent, name)
    }

    fn unlink(&self, parent: u64, name: &CStr) -> Answer<()> {
        self.remove_file(parent, name)
    }

    fn remove_directory(&self, parent: u64, name: &CStr) -> Answer<()> {
        self.remove_empty_directory(parent, name)
    }

    fn rename(&self, from: (u64, &CStr), to: (u64, &CStr), how: Rename) -> Answer<()> {
        self.rename_entry(from, to, how)
    }

    fn read(&self, node: u64, offset: u64, buffer: &mut [u8]) -> Answer<usize> {
        self.read_data(node, offset, buffer)
    }

    fn source(&self, node: u64) -> Answer<Arc<dyn AsFd + Send + Sync>> {
        let data = self.data(&self.inode(node)?)?;
        Ok(data)
    }

    fn write(&self, node: u64, offset: u64, data: &[u8], writer: Writer) -> Answer<usize> {
        self.write_data(node, offset, data, writer)
    }

    fn settle(&self) {
        self.times.settle();
    }

    fn list(&self, node: u64, offset: u64, sink: &mut dyn Sink) -> Answer<()> {
        self.list_entries(node, offset, sink)
    }

    fn sync(&self, node: u64, data_only: bool) -> Answer<()> {
        self.sync_file(node, data_only)
    }

    fn sync_all(&self) -> Answer<()> {
        self.sync_everything()
    }

    fn space(&self) -> Answer<Space> {
        self.free_space()
    }

    fn get_xattr(&self, node: u64, name: &CStr) -> Answer<Vec<u8>> {
        self.get_attribute(node, name)
    }

    fn list_xattrs(&self, node: u64) -> Answer<Vec<u8>> {
        self.list_attributes(node)
    }

    fn set_xattr(&self, node: u64, name: &CStr, value: &[u8], how: SetXattr) -> Answer<()> {
        self.set_attribute(node, name, value, how)
    }

    fn remove_xattr(&self, node: u64, name: &CStr) -> Answer<()> {
        self.remove_attribute(node, name)
    }

    fn allocate(&self, caller: Caller, node: u64, mode: u32, range: (u64, u64)) -> Answer<()> {
        self.allocate_data(caller, node, mode, range)
    }

    fn seek(&self, node: u64, offset: u64, whence: u32) -> Answer<u64> {
        self.seek_data(node, offset, whence)
    }

    fn copy_range(&self, caller: Caller, from: (u64, u64), to: (u64, u64), length: u64) -> Answer<usize> {
        self.copy_data(caller, from, to, length)
    }

    fn control(&self, node: u64, command: u32, input: &[u8]) -> Answer<Vec<u8>> {
        self.control_file(node, command, input)
    }
}
