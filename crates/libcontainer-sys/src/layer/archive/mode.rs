//! A mode as chmod takes it: octal, or clauses as `u=rwX,go-w`.

use serde::{Deserialize, Deserializer, de::Error};

/// What it makes of a mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    Octal(u32),
    Symbolic(Vec<Action>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// The bits that it may touch.
    who: u32,
    operator: Operator,
    bits: Bits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bits {
    /// `execute_if`: those of `X` too, of a directory and of what somebody may execute already.
    Given { bits: u32, execute_if: bool },
    /// Those of the owner (6), the group (3) or others (0), by their place.
    CopyOf(u32),
}

const ALL: u32 = 0o7777;
const EXECUTE: u32 = 0o111;

impl ModeChange {
    /// None: it is neither of the two.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(octal) = u32::from_str_radix(text, 8) {
            return (octal <= ALL).then_some(Self::Octal(octal));
        }
        let mut actions = Vec::new();
        for clause in text.split(',') {
            let operators = clause.find(['+', '-', '='])?;
            let (who, mut rest) = clause.split_at(operators);
            let who = who.chars().try_fold(0, |all, sign| Some(all | reach(sign)?))?;
            let who = if who == 0 { ALL } else { who };
            while let Some(sign) = rest.chars().next() {
                let operator = match sign {
                    '+' => Operator::Add,
                    '-' => Operator::Remove,
                    _ => Operator::Set,
                };
                let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |end| end + 1);
                actions.push(Action { who, operator, bits: Bits::parse(&rest[1..end])? });
                rest = &rest[end..];
            }
        }
        Some(Self::Symbolic(actions))
    }

    pub fn of(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Octal(octal) => *octal,
            Self::Symbolic(actions) => actions.iter().fold(mode, |mode, action| action.of(mode, is_directory)),
        }
    }
}

/// The bits of a class of users.
fn reach(who: char) -> Option<u32> {
    match who {
        'u' => Some(0o4700),
        'g' => Some(0o2070),
        'o' => Some(0o1007),
        'a' => Some(ALL),
        _ => None,
    }
}

impl Bits {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "u" => return Some(Self::CopyOf(6)),
            "g" => return Some(Self::CopyOf(3)),
            "o" => return Some(Self::CopyOf(0)),
            _ => {}
        }
        let bits = text.chars().filter(|sign| *sign != 'X').try_fold(0, |all, sign| {
            Some(
                all | match sign {
                    'r' => 0o444,
                    'w' => 0o222,
                    'x' => EXECUTE,
                    's' => 0o6000,
                    't' => 0o1000,
                    _ => return None,
                },
            )
        })?;
        Some(Self::Given { bits, execute_if: text.contains('X') })
    }
}

impl Action {
    fn of(self, mode: u32, is_directory: bool) -> u32 {
        let bits = match self.bits {
            Bits::Given { bits, execute_if: true } if is_directory || mode & EXECUTE != 0 => bits | EXECUTE,
            Bits::Given { bits, .. } => bits,
            Bits::CopyOf(place) => (mode >> place & 0o7) * EXECUTE,
        } & self.who;
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            Operator::Set => mode & !self.who | bits,
        }
    }
}

impl<'de> Deserialize<'de> for ModeChange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("{text} is no mode")))
    }
}

#[cfg(test)]
mod tests {
    use super::ModeChange;

    /// As GNU chmod with umask 0.
    #[test]
    fn changes_modes_as_chmod_does() {
        for (text, mode, is_directory, expected) in [
            ("755", 0o644, false, 0o755),
            ("04711", 0o600, false, 0o4711),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("o=g-w", 0o670, false, 0o675),
            ("ug+s,o+t", 0o755, true, 0o7755),
            ("go=", 0o777, false, 0o700),
        ] {
            let change = ModeChange::parse(text).expect(text);
            assert_eq!(format!("{:o}", change.of(mode, is_directory)), format!("{expected:o}"), "{text} of {mode:o}");
        }
    }

    #[test]
    fn refuses_what_is_no_mode() {
        for text in ["", "8", "10000", "-1x", "rwx", "u", "u+y", "u+x,", "z=r", "u=rg"] {
            assert_eq!(ModeChange::parse(text), None, "{text}");
        }
    }
}
