//! Who the owners of lower files are shown as.

use crate::storage::mapped::shifted;
use crate::types::idmap::IdMap;

/// How owners of lower layers are shown, and given to copies of their files.
/// The upper directory's are always taken as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct LowerOwners {
    /// Id in the layer to id in the outer namespace; `None` leaves it as it is.
    #[serde(default)]
    pub(crate) uid: Option<IdMap>,
    #[serde(default)]
    pub(crate) gid: Option<IdMap>,
    /// Whom files belong to whose owner the outer namespace has no id for.
    #[serde(default)]
    pub(crate) squash: Option<(u32, u32)>,
}

/// What the kernel shows for an id that has no place in a user namespace:
/// `/proc/sys/kernel/overflowuid`, user_namespaces(7).
const OVERFLOW: u32 = 65534;

impl LowerOwners {
    pub(super) fn show(&self, uid: u32, gid: u32) -> (u32, u32) {
        let squash = |id: u32, other: Option<u32>| other.filter(|_| id == OVERFLOW).unwrap_or(id);
        let shift = |map: &Option<IdMap>, id| map.as_ref().map_or(id, |map| shifted(map, id));
        (
            shift(&self.uid, squash(uid, self.squash.map(|owner| owner.0))),
            shift(&self.gid, squash(gid, self.squash.map(|owner| owner.1))),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::idmap::IdRange;

    #[test]
    fn owners_are_shifted_and_strangers_squashed() {
        let keep = IdMap(vec![
            IdRange { inside: 0, outside: 1, length: 1000 },
            IdRange { inside: 1000, outside: 0, length: 1 },
        ]);
        let none = LowerOwners::default();
        assert_eq!(none.show(65534, 7), (65534, 7));
        let squash = LowerOwners { squash: Some((0, 5)), ..none.clone() };
        assert_eq!(squash.show(65534, 65534), (0, 5));
        assert_eq!(squash.show(33, 0), (33, 0));
        let shift = LowerOwners { uid: Some(keep), ..none };
        assert_eq!(shift.show(0, 0), (1, 0));
        assert_eq!(shift.show(1000, 3), (0, 3));
        assert_eq!(shift.show(5000, 3), (1, 3), "without a place: root's");
    }
}
