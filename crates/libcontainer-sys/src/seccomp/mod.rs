//! seccomp filters: the specification's section compiled to classic BPF, and files of compiled instructions.

mod compile;
mod program;
mod table;

use crate::failure::{Context, Failure, Kind, Result};
pub use crate::sys::seccomp::Instruction;
pub use compile::{Architecture, Filter, Listener, NEW_LISTENER, SPEC_ALLOW, compile};
use std::path::Path;

/// Writes a compiled filter as the kernel's structs, 8 bytes each, in native order.
pub fn save(filter: &Filter, path: &Path) -> Result<()> {
    if filter.flags & !SPEC_ALLOW != 0 {
        let message = "/linux/seccomp: flags and SCMP_ACT_NOTIFY are not supported by this version of caisson";
        return Err(Failure::new(Kind::Unsupported, "seccomp", message));
    }
    let mut bytes = Vec::with_capacity(filter.program.len() * 8);
    for instruction in &filter.program {
        bytes.extend_from_slice(&instruction.code.to_ne_bytes());
        bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
        bytes.extend_from_slice(&instruction.k.to_ne_bytes());
    }
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, bytes).context("write", temporary.display())?;
    std::fs::rename(&temporary, path).context("rename to", path.display())
}

pub fn load_file(path: &str) -> Result<Filter> {
    let bytes = std::fs::read(path).context("read seccomp filter", path)?;
    if bytes.is_empty() || bytes.len() % 8 != 0 {
        return Err(Failure::invalid("seccomp", format!("{path}: not a compiled seccomp filter")));
    }
    let program = bytes
        .chunks_exact(8)
        .map(|b| Instruction {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        })
        .collect();
    Ok(Filter { program, flags: 0, listener: None })
}
