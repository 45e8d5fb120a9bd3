//! What can go wrong with the network, with step, object and errno.

use rustix::io::Errno;

pub type Result<T> = std::result::Result<T, NetError>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// `detail` is the kernel's own explanation (extended ack), often empty.
    #[error("{op} '{object}': {errno}{detail}")]
    System { op: &'static str, object: String, errno: Errno, detail: String },
    #[error("{op} '{object}': {reason}")]
    Invalid { op: &'static str, object: String, reason: String },
    #[error("{op} '{object}': {reason}")]
    Unsupported { op: &'static str, object: String, reason: String },
    /// Somebody else has it; `reason` is a whole sentence.
    #[error("{reason}")]
    Conflict { op: &'static str, object: String, errno: Errno, reason: String },
}

pub(crate) fn system(op: &'static str, object: impl Into<String>) -> impl FnOnce(Errno) -> NetError {
    let object = object.into();
    move |errno| NetError::System { op, object, errno, detail: String::new() }
}

pub(crate) fn invalid(op: &'static str, object: &str, reason: impl Into<String>) -> NetError {
    NetError::Invalid { op, object: object.into(), reason: reason.into() }
}

impl NetError {
    /// `NativeFailure.kind` of the contract.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::Unsupported { .. } => "unsupported",
            Self::Conflict { .. } => "conflict",
            Self::System { errno, .. } => match *errno {
                Errno::EXIST | Errno::BUSY | Errno::ADDRINUSE => "conflict",
                Errno::NODEV | Errno::NOENT => "notFound",
                Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT => "unsupported",
                _ => "system",
            },
        }
    }

    pub fn op(&self) -> &'static str {
        match self {
            Self::System { op, .. }
            | Self::Invalid { op, .. }
            | Self::Unsupported { op, .. }
            | Self::Conflict { op, .. } => op,
        }
    }

    pub fn object(&self) -> &str {
        match self {
            Self::System { object, .. }
            | Self::Invalid { object, .. }
            | Self::Unsupported { object, .. }
            | Self::Conflict { object, .. } => object,
        }
    }

    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::System { errno, .. } | Self::Conflict { errno, .. } => Some(*errno),
            Self::Invalid { .. } | Self::Unsupported { .. } => None,
        }
    }

    pub(crate) fn is(&self, wanted: Errno) -> bool {
        self.errno() == Some(wanted)
    }
}
