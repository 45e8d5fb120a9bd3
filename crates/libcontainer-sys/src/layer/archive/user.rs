//! Whether a user's name is one that the container knows.

use std::os::fd::AsFd;

use super::view::{self, ViewOptions};
use crate::failure::Result;
use crate::init::user;
use crate::spec::UserSpec;

/// `name[:group]`. Call it on a thread that ends with it (see `view::open`).
pub fn check_user(options: &ViewOptions, name: &str) -> Result<()> {
    let root = view::open(options)?;
    user::check_in(root.as_fd(), &UserSpec { user: name.to_owned(), additional_groups: Vec::new() })
}
