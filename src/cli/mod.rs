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
    let args: Vec<String> = std::env::args().collect();
    let uid = rustix::process::getuid().as_raw();
    let dirs = crate::dirs::Dirs::from_environment(uid).unwrap();
    let r = match args.get(1).map(String::as_str) {
        Some("time") => {
            let t = std::time::Instant::now();
            let r = crate::userns::enter(&dirs.runtime);
            let e = t.elapsed();
            match r {
                Ok(o) => { eprintln!("{:?} {:?} {} {}", e, o.extent, o.created, o.uid_map.count());
                    if args.len() == 2 { crate::userns::unregister_holder(&dirs.runtime).unwrap(); }
                    Ok(0.into()) }
                Err(e) => Err(e),
            }
        }
        Some("info") => system::info_document(&dirs, Default::default()).map(|d| { eprint!("{}", system::info_text(&d)); 0.into() }),
        Some("doctor") => system::doctor(&system::DoctorArgs { format: None }, &dirs),
        _ => system::unshare(&system::UnshareArgs { command: args[2..].to_vec() }, &dirs),
    };
    match r { Ok(c) => c, Err(e) => { ui::error(&e); e.kind().exit_code().into() } }
}
