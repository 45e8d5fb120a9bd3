//! `docker cp` and `docker diff`: files of a container, running or not, out of it and into it as archives.
//!
//! A path of a container is resolved by the kernel with the container's root as the ceiling (openat2, RESOLVE_IN_ROOT)
//! and what comes back is a descriptor: between looking and doing nobody in the container can put something else in its
//! place (CVE-2018-15664, CVE-2026-41568). Nothing of the container is executed or loaded, archives are inflated here
//! (CVE-2019-14271, CVE-2026-41567), and no mount is made that another than the working thread could see
//! (CVE-2026-42306).

mod changes;
mod inflate;
mod mode;
mod pack;
mod path;
mod stat;
mod unpack;
mod user;
mod view;

#[cfg(test)]
mod tests;

pub use changes::{Change, ChangeKind, changes};
pub use inflate::is_archive;
pub use pack::{ReadOptions, read};
pub use stat::{PathStat, stat};
pub use unpack::{WriteOptions, write};
pub use user::check_user;
pub use view::{Process, ViewOptions};
