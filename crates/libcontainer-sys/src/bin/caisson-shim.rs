//! One for each container; started by the daemon's addon, never by hand.

use std::path::PathBuf;
use std::process::ExitCode;

use libcontainer_sys::shim::{INIT, bootstrap, run_as_init};

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next();
    if name.as_ref().is_some_and(|name| name == INIT) {
        // in a container that another runtime builds; the first word is the --
        let code = run_as_init(&args.skip(1).collect::<Vec<_>>());
        return ExitCode::from(u8::try_from(code).unwrap_or(125));
    }
    match (name, args.next(), args.next()) {
        (Some(_), Some(flag), None) if flag == "--version" => {
            println!("{}", bootstrap::version_line());
            ExitCode::SUCCESS
        }
        (Some(_), Some(state_dir), None) => match bootstrap::run(&PathBuf::from(state_dir)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("caisson-shim: {}", failure.message);
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: caisson-shim STATE-DIR");
            ExitCode::from(125)
        }
    }
}
