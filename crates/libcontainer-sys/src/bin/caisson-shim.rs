//! One for each container; started by the daemon's addon, never by hand.

use std::path::PathBuf;
use std::process::ExitCode;

use libcontainer_sys::shim::bootstrap;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    match (args.next(), args.next(), args.next()) {
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
