//! Which devices a container may use: the rules of its specification and those that every container has.

use crate::failure::{Failure, Result};
use crate::spec::DeviceRule;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub allow: bool,
    /// `a` (both), `b` or `c`.
    pub kind: char,
    /// None: every number.
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// Letters of `rwm`.
    pub access: String,
}

/// What every container may do whatever its rules say, as with runc: make nodes (to open them is another matter), use the
/// default devices, terminals and tun.
const ALWAYS: [(char, Option<u32>, Option<u32>, &str); 11] = [
    ('c', None, None, "m"),
    ('b', None, None, "m"),
    ('c', Some(1), Some(3), "rwm"),
    ('c', Some(1), Some(5), "rwm"),
    ('c', Some(1), Some(7), "rwm"),
    ('c', Some(1), Some(8), "rwm"),
    ('c', Some(1), Some(9), "rwm"),
    ('c', Some(5), Some(0), "rwm"),
    ('c', Some(5), Some(2), "rwm"),
    ('c', Some(136), None, "rwm"),
    ('c', Some(10), Some(200), "rwm"),
];

impl Rule {
    /// Every device, all access.
    pub fn is_everything(&self) -> bool {
        self.kind == 'a'
    }
}

/// The rules in force, in order: a later one wins. Empty when none were asked for.
pub fn effective(asked: &[DeviceRule]) -> Result<Vec<Rule>> {
    let mut rules: Vec<Rule> = asked.iter().map(rule).collect::<Result<_>>()?;
    let open = rules.last().is_none_or(|rule| rule.allow && rule.is_everything());
    if !open {
        rules.extend(ALWAYS.iter().map(|(kind, major, minor, access)| Rule {
            allow: true,
            kind: *kind,
            major: *major,
            minor: *minor,
            access: (*access).to_owned(),
        }));
    }
    Ok(rules)
}

fn rule(asked: &DeviceRule) -> Result<Rule> {
    let invalid = |what: String| Failure::invalid("devices", format!("/linux/resources/devices: {what}"));
    let kind = match asked.kind.as_deref() {
        None | Some("a") => 'a',
        Some("b") => 'b',
        Some("c" | "u") => 'c',
        Some(other) => return Err(invalid(format!("{other:?} is not a type of device"))),
    };
    let number = |number: Option<i64>| match number.filter(|n| *n >= 0) {
        None => Ok(None),
        Some(n) => u32::try_from(n).map(Some).map_err(|_| invalid(format!("{n} is not a device number"))),
    };
    let access = asked.access.as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
    // runc passes over the "a" that some write beside them
    let access = access.replace('a', "");
    if access.is_empty() || !access.chars().all(|letter| "rwm".contains(letter)) {
        return Err(invalid(format!("{access:?} is not made of r, w and m")));
    }
    Ok(Rule { allow: asked.allow, kind, major: number(asked.major)?, minor: number(asked.minor)?, access })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(allow: bool, kind: &str) -> DeviceRule {
        DeviceRule { allow, kind: Some(kind.into()), major: None, minor: None, access: None }
    }

    #[test]
    fn the_common_devices_are_added_unless_all_are_open() {
        assert_eq!(effective(&[]).unwrap().len(), 0);
        assert_eq!(effective(&[asked(true, "a")]).unwrap().len(), 1);
        assert_eq!(effective(&[asked(false, "a")]).unwrap().len(), 1 + ALWAYS.len());
    }

    #[test]
    fn unknown_words_are_refused() {
        assert!(effective(&[asked(true, "x")]).is_err());
        let access = DeviceRule { access: Some("rx".into()), ..asked(true, "c") };
        assert!(effective(&[access]).is_err());
    }
}
