//! One test for each row of the record of vulnerabilities that this code
//! touches, named after the CVE. Each fails on the naive implementation.

mod identities;
mod paths;
mod resources;
mod runtime;
