//! `ps --sort`: podman's orders.

use crate::engine::list::Container;
use crate::error::{Error, Result};
use std::cmp::Ordering;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Command,
    /// The oldest first; without the flag docker's order holds, the newest first.
    Created,
    Id,
    Image,
    Names,
    /// Those that were started last come first.
    RunningFor,
    Size,
    Status,
}

impl Order {
    /// # Errors
    /// `Invalid` for another word.
    pub(super) fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "command" => Self::Command,
            "created" => Self::Created,
            "id" => Self::Id,
            "image" => Self::Image,
            "names" => Self::Names,
            "runningfor" => Self::RunningFor,
            "size" => Self::Size,
            "status" => Self::Status,
            _ => {
                return Err(Error::invalid(format!("invalid value {text:?} of --sort"))
                    .hint("it is one of command, created, id, image, names, runningfor, size and status"));
            }
        })
    }

    /// Puts containers, of which the newest comes first, into this order.
    pub(super) fn sort(self, containers: &mut [Container]) {
        let key = |one: &Container, two: &Container| -> Ordering {
            match self {
                Self::Created => one.record.created.cmp(&two.record.created),
                Self::Command => one.command().cmp(&two.command()),
                Self::Id => one.record.id.cmp(&two.record.id),
                Self::Image => one.image(false).cmp(&two.image(false)),
                Self::Names => one.record.name.cmp(&two.record.name),
                Self::RunningFor => two.last_started.cmp(&one.last_started),
                Self::Size => one.size.cmp(&two.size),
                Self::Status => one.state().cmp(two.state()),
            }
        };
        containers.sort_by(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::list::samples::{container, exited, running, time};

    #[test]
    fn containers_are_put_in_order() {
        let mut new = container("b", 5, running("2026-01-05T12:00:00Z"));
        new.size = Some((1, 9));
        new.last_started = Some(time("2026-01-05T12:00:00Z"));
        let mut old = container("a", 1, exited(0, "2026-01-02T00:00:00Z"));
        old.size = Some((2, 3));
        old.record.config.cmd = vec!["a".into()];
        for (order, first) in [
            ("created", "a"),
            ("names", "a"),
            ("id", "a"),
            ("command", "a"),
            ("image", "b"),
            ("size", "b"),
            ("runningfor", "b"),
            ("status", "a"),
        ] {
            let mut containers = [new.clone(), old.clone()];
            Order::parse(order).expect(order).sort(&mut containers);
            assert_eq!(containers[0].record.name, first, "{order}");
        }
        assert!(Order::parse("age").is_err());
    }
}
