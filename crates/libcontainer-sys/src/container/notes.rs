//! What a process on its way into a container has to say beside whether it got there.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// A step that was taken.
    Debug,
    /// Something asked for that could not be given, and that the specification lets go.
    Warning,
}

/// Who hears it.
#[derive(Debug, Clone, Copy)]
pub struct Notes {
    pub tell: fn(Level, &str),
    /// Whether steps are wanted.
    pub debug: bool,
}

impl Notes {
    /// For a creator that has nobody to tell.
    pub const UNHEARD: Notes = Notes { tell: |_, _| {}, debug: false };
}
