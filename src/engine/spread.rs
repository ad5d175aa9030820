//! Reading many small things with several threads.

/// Below this a thread costs more than it saves.
const WORTH_A_THREAD: usize = 64;

/// `read` of the items, in their order. It gets a part of them at a time; many
/// items go to several threads, which are gone again before this returns:
/// entering a user namespace takes a process with one.
pub(super) fn in_parts<T: Send, R: Send>(
    mut items: Vec<T>,
    read: impl Fn(Vec<T>) -> Vec<R> + Sync,
) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4);
    let share = items.len().div_ceil(threads).max(WORTH_A_THREAD);
    let read = &read;
    std::thread::scope(|scope| {
        let mut others = Vec::new();
        while items.len() > share && others.len() + 1 < threads {
            let part = items.split_off(items.len() - share);
            others.push(scope.spawn(move || read(part)));
        }
        let mut all = read(items);
        // They took their parts from the end.
        for other in others.into_iter().rev() {
            all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::in_parts;

    #[test]
    fn the_order_is_kept_and_nothing_lost() {
        for many in [0, 1, 63, 64, 65, 128, 129, 1000, 1001] {
            let items: Vec<usize> = (0..many).collect();
            let doubled = in_parts(items, |part| part.into_iter().map(|item| item * 2).collect());
            assert_eq!(doubled, (0..many).map(|item| item * 2).collect::<Vec<_>>(), "{many}");
        }
    }
}
