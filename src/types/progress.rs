//! What a transfer has to say while it goes on.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// A line of its own.
    Line(String),
    /// A remark that is no part of the progress.
    Warning(String),
    /// Of the item `id`, `done` of `total` bytes have passed.
    Moving {
        id: String,
        /// `Downloading`
        verb: &'static str,
        done: u64,
        total: u64,
    },
    /// The item is through: `Pull complete`.
    Ended { id: String, text: String },
}
