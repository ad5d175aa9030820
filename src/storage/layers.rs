//! stub
use super::unpack::Ownership;
use crate::error::*;
use crate::types::digest::Digest;
use std::io::Read;
use std::path::{Path, PathBuf};
#[derive(Clone, Debug)]
pub(crate) struct LayerStore { dir: PathBuf }
impl LayerStore {
    pub(crate) fn open(dir: &Path) -> Result<Self> { crate::dirs::create_private(dir)?; Ok(Self { dir: dir.to_owned() }) }
    pub(crate) fn path(&self, id: &Digest) -> PathBuf { self.dir.join(id.hex()) }
    pub(crate) fn contains(&self, id: &Digest) -> bool { self.path(id).is_dir() }
    pub(crate) fn unpack(&self, id: &Digest, diff_id: &Digest, tar: &mut dyn Read, _o: Ownership) -> Result<()> {
        let mut b = Vec::new(); tar.read_to_end(&mut b).context(|| "read layer")?;
        if Digest::of(&b) != *diff_id { return Err(Error::invalid("diff id differs")); }
        std::fs::create_dir_all(self.path(id)).context(|| "mkdir")?;
        std::fs::write(self.path(id).join("size"), b.len().to_string()).context(|| "x")
    }
    pub(crate) fn remove(&self, id: &Digest) -> Result<()> { std::fs::remove_dir_all(self.path(id)).or_ignore(); Ok(()) }
    pub(crate) fn list(&self) -> Result<Vec<Digest>> {
        Ok(std::fs::read_dir(&self.dir).context(|| "x")?.flatten().filter_map(|e| Digest::from_hex(e.file_name().to_str()?).ok()).collect())
    }
    pub(crate) fn size(&self, id: &Digest) -> Result<u64> { Ok(std::fs::read_to_string(self.path(id).join("size")).context(|| "x")?.parse().unwrap()) }
}
