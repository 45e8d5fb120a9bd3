//! From the OCI `linux.seccomp` section to classic BPF.

use crate::container::Result;
use crate::spec::Linux;

/// Compiles the section for this machine's architecture: an array of `struct sock_filter` as bytes.
pub fn compile(section: &serde_json::Value) -> Result<Vec<u8>> {
    Err(crate::container::Error::unsupported("/linux/seccomp", section.to_string()))
}

/// The filter of a container: `seccompFile` read, or `seccomp` compiled, or none.
pub fn for_spec(linux: &Linux) -> Result<Option<Vec<u8>>> {
    linux.seccomp.as_ref().map(compile).transpose()
}
