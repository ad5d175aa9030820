//! What people say on the command line.
pub(crate) mod container_options;
pub(crate) mod images;
pub(crate) mod inspect;
pub(crate) mod lifecycle;
pub(crate) mod logs;
pub(crate) mod ps;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod system;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod ui;
pub(crate) mod volume;

/// The program's entry.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
