//! The device rules of cgroup v2: a small eBPF program, attached to the group's directory, that the kernel asks at each
//! open and mknod.

use super::devices::Rule;
use crate::failure::{Context, Result};
use crate::sys::bpf::{Instruction, attach_devices, load_devices};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

// linux/bpf.h and bpf_common.h
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const MOVE: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const SET: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const JUMP_NOT_EQUAL: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d; // BPF_JMP | BPF_JNE | BPF_X
const JUMP_EQUAL: u8 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const EXIT: u8 = 0x95;

// registers: the answer, the context (scratch once it has been read), and what was asked
const ANSWER: u8 = 0;
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const ALL_ACCESS: i32 = 7;

fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset, value }
}

/// The last rule that matches decides: they are asked from the end. No match: denied.
pub fn compile(rules: &[Rule]) -> Vec<Instruction> {
    // struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }, access_type = access << 16 | kind
    let mut program = vec![
        instruction(LOAD_WORD, KIND, 1, 0, 0),
        instruction(LOAD_WORD, MAJOR, 1, 4, 0),
        instruction(LOAD_WORD, MINOR, 1, 8, 0),
        instruction(MOVE, ACCESS, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
    ];
    for rule in rules.iter().rev() {
        program.extend(rule_code(rule));
        if rule.is_everything() {
            // nothing before it can be reached
            return program;
        }
    }
    program.extend(answer(false));
    program
}

fn answer(allow: bool) -> [Instruction; 2] {
    [instruction(SET, ANSWER, 0, 0, i32::from(allow)), instruction(EXIT, 0, 0, 0, 0)]
}

fn rule_code(rule: &Rule) -> Vec<Instruction> {
    let access = access_bits(&rule.access);
    let mut code = Vec::new();
    if rule.is_everything() {
        return answer(rule.allow).to_vec();
    }
    // BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR
    code.push(instruction(JUMP_NOT_EQUAL, KIND, 0, 0, if rule.kind == 'b' { 1 } else { 2 }));
    if access != ALL_ACCESS {
        code.push(instruction(MOVE, SCRATCH, ACCESS, 0, 0));
        code.push(instruction(AND, SCRATCH, 0, 0, access));
        // to allow, the rule must have all that is asked; to deny, some of it
        code.push(match rule.allow {
            true => instruction(JUMP_NOT_EQUAL_REGISTER, SCRATCH, ACCESS, 0, 0),
            false => instruction(JUMP_EQUAL, SCRATCH, 0, 0, 0),
        });
    }
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        if let Some(number) = number {
            code.push(instruction(JUMP_NOT_EQUAL, register, 0, 0, number as i32));
        }
    }
    let length = code.len() + 2;
    for (at, step) in code.iter_mut().enumerate() {
        if matches!(step.code, JUMP_NOT_EQUAL | JUMP_NOT_EQUAL_REGISTER | JUMP_EQUAL) {
            step.offset = (length - at - 1) as i16;
        }
    }
    code.extend(answer(rule.allow));
    code
}

/// BPF_DEVCG_ACC_MKNOD, _READ, _WRITE
fn access_bits(access: &str) -> i32 {
    access.chars().fold(0, |bits, letter| {
        bits | match letter {
            'm' => 1,
            'r' => 2,
            _ => 4,
        }
    })
}

/// Loads and attaches. The kernel keeps the program as long as the group lives.
pub fn attach(dir: &Path, group: &OwnedFd, rules: &[Rule]) -> Result<()> {
    let program = load_devices(&compile(rules)).context("load the device program of", dir.display())?;
    attach_devices(group.as_fd(), program.as_fd()).context("attach the device program to", dir.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel's machine would answer.
    fn ask(program: &[Instruction], kind: u64, access: u64, major: u64, minor: u64) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0usize;
        loop {
            let Instruction { code, registers: names, offset, value } = program[at];
            let (to, from) = ((names & 15) as usize, (names >> 4) as usize);
            at += 1;
            let jump = |yes: bool, at: usize| if yes { at + offset as usize } else { at };
            match code {
                LOAD_WORD => registers[to] = context[offset as usize / 4],
                AND => registers[to] &= value as u64,
                SHIFT_RIGHT => registers[to] >>= value,
                MOVE => registers[to] = registers[from],
                SET => registers[to] = value as u64,
                JUMP_NOT_EQUAL => at = jump(registers[to] != value as u64, at),
                JUMP_NOT_EQUAL_REGISTER => at = jump(registers[to] != registers[from], at),
                JUMP_EQUAL => at = jump(registers[to] == value as u64, at),
                EXIT => return registers[0] == 1,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn rule(allow: bool, kind: char, major: Option<u32>, minor: Option<u32>, access: &str) -> Rule {
        Rule { allow, kind, major, minor, access: access.into() }
    }

    #[test]
    fn the_last_match_decides() {
        let program = compile(&[
            rule(true, 'b', Some(8), None, "rwm"),
            rule(false, 'a', None, None, "rwm"),
            rule(true, 'c', Some(1), Some(3), "rwm"),
            rule(true, 'c', None, None, "m"),
            rule(true, 'c', Some(10), None, "r"),
            rule(false, 'c', Some(10), Some(229), "r"),
        ]);
        let (block, char) = (1, 2);
        let (mknod, read, write) = (1, 2, 4);
        assert!(ask(&program, char, read | write, 1, 3));
        assert!(!ask(&program, char, read, 1, 2));
        assert!(ask(&program, char, mknod, 1, 2));
        assert!(!ask(&program, block, read, 8, 0), "allowed before everything was denied");
        assert!(ask(&program, char, read, 10, 1));
        assert!(!ask(&program, char, read | write, 10, 1), "only a part is allowed");
        assert!(!ask(&program, char, read, 10, 229));
    }

    #[test]
    fn everything_open_is_two_steps() {
        assert!(ask(&compile(&[rule(true, 'a', None, None, "rwm")]), 1, 7, 8, 0));
    }
}
