//! Lists of which nearly all have one entry: names of a file, layers that have it.
//! There is one of each for every file that the kernel knows, so the entry is kept
//! in its place, without a block of memory of its own.

use std::ops::{Deref, DerefMut};

#[derive(Clone, Default)]
pub(super) enum Few<T> {
    #[default]
    None,
    One(T),
    Several(Box<Items<T>>),
}

/// Behind a pointer, so that the list is no larger for those that have one entry.
#[derive(Clone)]
pub(super) struct Items<T>(Vec<T>);

impl<T> Few<T> {
    pub(super) fn push(&mut self, item: T) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(item),
            Self::One(first) => Self::Several(Box::new(Items(vec![first, item]))),
            Self::Several(mut items) => {
                items.0.push(item);
                Self::Several(items)
            }
        };
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        *self = match std::mem::take(self) {
            Self::One(item) if keep(&item) => Self::One(item),
            Self::None | Self::One(_) => Self::None,
            Self::Several(mut items) => {
                items.0.retain(keep);
                items.0.into()
            }
        };
    }

    pub(super) fn clear(&mut self) {
        *self = Self::None;
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(mut items: Vec<T>) -> Self {
        match items.len() {
            0 | 1 => items.pop().map_or(Self::None, Self::One),
            _ => Self::Several(Box::new(Items(items))),
        }
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(item) => std::slice::from_ref(item),
            Self::Several(items) => &items.0,
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::None => &mut [],
            Self::One(item) => std::slice::from_mut(item),
            Self::Several(items) => &mut items.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_list() {
        let mut list = Few::default();
        for count in 0..4 {
            assert_eq!(*list, [0, 1, 2, 3][..count]);
            list.push(count);
        }
        list[1] = 7;
        list.retain(|item| *item != 2);
        assert_eq!(*list, [0, 7, 3]);
        list.retain(|item| *item == 7);
        assert!(matches!(list, Few::One(7)));
        list.retain(|item| *item != 7);
        assert!(list.is_empty());
    }

    #[test]
    fn one_takes_no_more_room_than_the_entry() {
        use super::super::inode::Name;
        assert_eq!(size_of::<Few<Name>>(), size_of::<Name>());
    }
}
