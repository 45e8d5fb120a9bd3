//! `exit.json`, and what else is told of an ended process.

use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::clock::{now, timestamp};

/// `ExitStatus` of the contract.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ExitStatus {
    pub exit_code: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    pub oom_killed: bool,
    pub exited_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl ExitStatus {
    pub fn now(exit_code: i32, signal: Option<i32>, oom_killed: bool) -> Self {
        Self { exit_code, signal, oom_killed, exited_at: timestamp(now()), reason: None }
    }

    /// The status of a container whose shim was killed, so that nobody can know its own.
    pub fn lost() -> Self {
        Self { reason: Some("shim lost".into()), ..Self::now(137, Some(9), false) }
    }

    pub fn write(&self, state_dir: &Path) -> io::Result<()> {
        write_whole(&state_dir.join("exit.json"), &serde_json::to_vec(self)?)
    }

    pub fn read(state_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(state_dir.join("exit.json")).ok()?).ok()
    }
}

/// A file that is complete or not there. Not synced: state directories live in memory and a crash of the host ends the
/// container too.
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(content)?;
    std::fs::rename(temporary, path)
}
