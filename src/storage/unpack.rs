//! stub
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership { Keep, Squash }
