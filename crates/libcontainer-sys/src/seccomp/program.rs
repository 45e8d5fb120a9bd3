//! Building blocks of a filter: a decision per syscall number, laid out as a binary search.

use crate::sys::seccomp::Instruction;

// offsets in struct seccomp_data
pub const NUMBER: u32 = 0;
pub const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
pub const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
pub const GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

pub fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jt: 0, jf: 0, k: offset }
}

pub fn ret(action: u32) -> Instruction {
    Instruction { code: RETURN, jt: 0, jf: 0, k: action }
}

pub fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// Over the next `count` instructions.
pub fn skip(count: usize) -> Instruction {
    Instruction { code: JUMP, jt: 0, jf: 0, k: count as u32 }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// `(argument & mask) == value`
    MaskedEqual(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub argument: u8,
    pub compare: Compare,
    pub value: u64,
}

/// All conditions hold → action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub conditions: Vec<Condition>,
    pub action: u32,
}

/// Code that returns the action of the first rule that holds, else `default`.
pub fn decide(rules: &[Rule], default: u32) -> Vec<Instruction> {
    let mut code = Vec::new();
    for rule in rules {
        code.extend(rule_code(rule));
    }
    if rules.iter().all(|rule| !rule.conditions.is_empty()) {
        code.push(ret(default));
    }
    code
}

fn rule_code(rule: &Rule) -> Vec<Instruction> {
    let mut tail = vec![ret(rule.action)];
    // built from the end, so that each condition knows how far the next rule is
    for condition in rule.conditions.iter().rev() {
        let mut code = condition_code(condition, tail.len() as u8);
        code.append(&mut tail);
        tail = code;
    }
    tail
}

/// Falls through when the condition holds, else jumps over the `rest` instructions behind it. 64-bit values are compared as
/// two halves, the high one first.
fn condition_code(condition: &Condition, rest: u8) -> Vec<Instruction> {
    let low = load(ARGUMENTS + 8 * u32::from(condition.argument));
    let high = load(ARGUMENTS + 8 * u32::from(condition.argument) + 4);
    let (value_high, value_low) = ((condition.value >> 32) as u32, condition.value as u32);
    match condition.compare {
        Compare::Equal => {
            vec![high, jump(EQUAL, value_high, 0, rest + 2), low, jump(EQUAL, value_low, 0, rest)]
        }
        Compare::NotEqual => {
            vec![high, jump(EQUAL, value_high, 0, 2), low, jump(EQUAL, value_low, rest, 0)]
        }
        Compare::MaskedEqual(mask) => {
            let and = |mask: u32| Instruction { code: AND, jt: 0, jf: 0, k: mask };
            vec![
                high,
                and((mask >> 32) as u32),
                jump(EQUAL, value_high, 0, rest + 3),
                low,
                and(mask as u32),
                jump(EQUAL, value_low, 0, rest),
            ]
        }
        Compare::Greater | Compare::GreaterOrEqual => {
            let code = if condition.compare == Compare::Greater { GREATER } else { GREATER_EQUAL };
            vec![
                high,
                jump(GREATER, value_high, 3, 0),
                jump(EQUAL, value_high, 0, rest + 2),
                low,
                jump(code, value_low, 0, rest),
            ]
        }
        Compare::Less | Compare::LessOrEqual => {
            // not (≥), not (>)
            let code = if condition.compare == Compare::Less { GREATER_EQUAL } else { GREATER };
            vec![
                high,
                jump(GREATER, value_high, rest + 3, 0),
                jump(EQUAL, value_high, 0, 2),
                low,
                jump(code, value_low, rest, 0),
            ]
        }
    }
}

/// A range of syscall numbers, from `first` to the next range, with its code.
pub struct Range {
    pub first: u32,
    pub code: Vec<Instruction>,
}

/// Binary search over sorted ranges; the number is in the accumulator. A jump reaches 255 instructions, so that a far half is
/// reached through an unconditional one.
pub fn search(ranges: &[Range]) -> Vec<Instruction> {
    match ranges {
        [] => Vec::new(),
        [only] => only.code.clone(),
        _ => {
            let (left, right) = ranges.split_at(ranges.len() / 2);
            let pivot = right[0].first;
            let left = search(left);
            let mut code = match u8::try_from(left.len()) {
                Ok(far) => vec![jump(GREATER_EQUAL, pivot, far, 0)],
                Err(_) => vec![jump(GREATER_EQUAL, pivot, 0, 1), skip(left.len())],
            };
            code.extend(left);
            code.extend(search(right));
            code
        }
    }
}
