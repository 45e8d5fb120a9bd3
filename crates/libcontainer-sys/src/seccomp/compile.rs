//! From the specification's `linux.seccomp` to a program.
//!
//! A process of an architecture that the section does not list gets the default action for every call, as does the x32
//! interface, which kernels of distributions no longer have.

use super::program::{
    ARCHITECTURE, Compare, Condition, EQUAL, GREATER_EQUAL, NUMBER, Range, Rule, decide, jump, load, ret, search, skip,
};
use super::table::syscalls;
use crate::failure::{Failure, Result};
use crate::sys::seccomp::Instruction;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    X86_64,
    Aarch64,
    /// 32-bit programs on x86_64.
    I386,
    /// 32-bit programs on aarch64.
    Arm,
}

impl Architecture {
    pub const NATIVE: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };

    /// AUDIT_ARCH_* of linux/audit.h
    fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xC000_003E,
            Self::Aarch64 => 0xC000_00B7,
            Self::I386 => 0x4000_0003,
            Self::Arm => 0x4000_0028,
        }
    }

    /// The 32-bit architecture that the same kernel runs, and its name in a section.
    fn sibling(self) -> Option<(Self, &'static str)> {
        match self {
            Self::X86_64 => Some((Self::I386, "SCMP_ARCH_X86")),
            Self::Aarch64 => Some((Self::Arm, "SCMP_ARCH_ARM")),
            Self::I386 | Self::Arm => None,
        }
    }
}

/// x32 calls carry this bit on x86_64.
const X32_BIT: u32 = 0x4000_0000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Seccomp {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<String>,
    flags: Option<Vec<String>>,
    #[serde(default)]
    listener_path: String,
    #[serde(default)]
    listener_metadata: String,
    #[serde(default)]
    syscalls: Vec<Syscall>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscall {
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Vec<Argument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Who answers for the calls with SCMP_ACT_NOTIFY: a socket, and words for whoever listens there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub path: String,
    pub metadata: String,
}

#[derive(Debug)]
pub struct Filter {
    pub program: Vec<Instruction>,
    /// SECCOMP_FILTER_FLAG_* of linux/seccomp.h
    pub flags: u64,
    pub listener: Option<Listener>,
}

/// The filter of a seccomp section. Names that the architecture does not have are passed over, as runc does: profiles name
/// the calls of all architectures.
pub fn compile(section: &serde_json::Value, architecture: Architecture) -> Result<Filter> {
    let seccomp = Seccomp::deserialize(section).map_err(|error| invalid(format!("/linux/seccomp: {error}")))?;
    // where nothing is said, a filter is no reason to slow speculation down
    let mut flags = if seccomp.flags.is_none() { SPEC_ALLOW } else { 0 };
    for (at, flag) in seccomp.flags.iter().flatten().enumerate() {
        flags |= match flag.as_str() {
            // a single-threaded process has no other threads to bring along
            "SECCOMP_FILTER_FLAG_TSYNC" => 0,
            "SECCOMP_FILTER_FLAG_LOG" => 1 << 1,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => SPEC_ALLOW,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => 1 << 5,
            other => return Err(invalid(format!("/linux/seccomp/flags/{at}: unknown flag {other:?}"))),
        };
    }
    let listener = listener(&seccomp)?;
    if listener.is_some() {
        flags |= NEW_LISTENER;
    } else if flags & (1 << 5) != 0 {
        return Err(invalid(
            "/linux/seccomp/flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is for SCMP_ACT_NOTIFY".into(),
        ));
    }
    Ok(Filter { program: program(&seccomp, architecture)?, flags, listener })
}

pub const SPEC_ALLOW: u64 = 1 << 2;
pub const NEW_LISTENER: u64 = 1 << 3;

const NOTIFY: &str = "SCMP_ACT_NOTIFY";

fn listener(seccomp: &Seccomp) -> Result<Option<Listener>> {
    if seccomp.default_action == NOTIFY {
        return Err(invalid("/linux/seccomp/defaultAction: SCMP_ACT_NOTIFY cannot be the default".into()));
    }
    let Some(at) = seccomp.syscalls.iter().position(|syscall| syscall.action == NOTIFY) else {
        // a path alone asks nothing of anybody
        return Ok(None);
    };
    if seccomp.listener_path.is_empty() {
        return Err(invalid(format!("/linux/seccomp/syscalls/{at}: SCMP_ACT_NOTIFY needs a listenerPath")));
    }
    // the calls by which the listener's descriptor leaves the process: nobody answers before it has
    for (at, syscall) in seccomp.syscalls.iter().enumerate().filter(|(_, syscall)| syscall.action == NOTIFY) {
        if let Some(name) = syscall.names.iter().find(|name| ["sendmsg", "write"].contains(&name.as_str())) {
            return Err(invalid(format!(
                "/linux/seccomp/syscalls/{at}: SCMP_ACT_NOTIFY cannot be used for the {name} syscall"
            )));
        }
    }
    Ok(Some(Listener { path: seccomp.listener_path.clone(), metadata: seccomp.listener_metadata.clone() }))
}

fn program(seccomp: &Seccomp, architecture: Architecture) -> Result<Vec<Instruction>> {
    let default = action(&seccomp.default_action, seccomp.default_errno_ret, "/linux/seccomp/defaultAction")?;
    let sibling = architecture
        .sibling()
        .filter(|(_, name)| seccomp.architectures.iter().any(|listed| listed == name))
        .map(|(sibling, _)| sibling);
    let mut program = vec![load(ARCHITECTURE)];
    for architecture in [Some(architecture), sibling].into_iter().flatten() {
        let block = assemble(seccomp, default, architecture)?;
        // over an unconditional jump: the block is longer than a conditional one reaches
        program.extend([jump(EQUAL, architecture.audit(), 1, 0), skip(block.len())]);
        program.extend(block);
    }
    program.push(ret(default));
    if program.len() > MAX_INSTRUCTIONS {
        let message = format!("/linux/seccomp: {} instructions; the kernel takes {MAX_INSTRUCTIONS}", program.len());
        return Err(invalid(message));
    }
    Ok(program)
}

/// BPF_MAXINSNS
const MAX_INSTRUCTIONS: usize = 4096;

const ERRNO: u32 = 0x0005_0000;

/// The decisions for one architecture; every way through ends in an answer.
fn assemble(seccomp: &Seccomp, default: u32, architecture: Architecture) -> Result<Vec<Instruction>> {
    let numbers = syscalls(architecture);
    let mut rules: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    for (at, syscall) in seccomp.syscalls.iter().enumerate() {
        let pointer = format!("/linux/seccomp/syscalls/{at}");
        let action = action(&syscall.action, syscall.errno_ret, &format!("{pointer}/action"))?;
        let alternatives = alternatives(&syscall.args, &pointer)?;
        for number in syscall.names.iter().filter_map(|name| numbers.get(name.as_str())) {
            let rules = rules.entry(*number).or_default();
            rules.extend(alternatives.iter().map(|conditions| Rule { conditions: conditions.clone(), action }));
        }
    }
    let mut ranges: Vec<Range> = vec![Range { first: 0, code: vec![ret(default)] }];
    let mut push = |first: u32, code: Vec<Instruction>| match ranges.last_mut() {
        Some(last) if last.first == first => last.code = code,
        _ => ranges.push(Range { first, code }),
    };
    for (number, rules) in &mut rules {
        // what holds always stands last: a condition says more
        rules.sort_by_key(|rule| rule.conditions.is_empty());
        push(*number, decide(rules, default));
        push(*number + 1, vec![ret(default)]);
    }
    let newest = numbers.values().copied().filter(|number| *number < PRIVATE).max().unwrap_or(0);
    if default & 0xFFFF_0000 == ERRNO && !rules.keys().any(|number| *number > newest) {
        // calls newer than the table: programs fall back on ENOSYS, but take EPERM for an answer
        push(newest + 1, vec![ret(ERRNO | libc::ENOSYS as u32)]);
    }
    // neighbours with one answer are one range: the kernel's time to take a filter goes by its length
    ranges.dedup_by(|next, before| next.code == before.code);
    let mut block = vec![load(NUMBER)];
    if architecture == Architecture::X86_64 {
        block.extend([jump(GREATER_EQUAL, X32_BIT, 0, 1), ret(default)]);
    }
    block.extend(search(&ranges));
    Ok(block)
}

/// Arm has a few calls of its own from here on (set_tls, cacheflush).
const PRIVATE: u32 = 0xF_0000;

/// Conditions on the same argument are alternatives, on different ones all must hold (libseccomp's rule as runc applies it).
fn alternatives(args: &[Argument], pointer: &str) -> Result<Vec<Vec<Condition>>> {
    let mut conditions = Vec::new();
    for (at, arg) in args.iter().enumerate() {
        if arg.index > 5 {
            return Err(invalid(format!("{pointer}/args/{at}/index: {} is not 0 to 5", arg.index)));
        }
        let (compare, value) = match arg.op.as_str() {
            "SCMP_CMP_NE" => (Compare::NotEqual, arg.value),
            "SCMP_CMP_LT" => (Compare::Less, arg.value),
            "SCMP_CMP_LE" => (Compare::LessOrEqual, arg.value),
            "SCMP_CMP_EQ" => (Compare::Equal, arg.value),
            "SCMP_CMP_GE" => (Compare::GreaterOrEqual, arg.value),
            "SCMP_CMP_GT" => (Compare::Greater, arg.value),
            "SCMP_CMP_MASKED_EQ" => (Compare::MaskedEqual(arg.value), arg.value_two),
            other => return Err(invalid(format!("{pointer}/args/{at}/op: unknown operator {other:?}"))),
        };
        conditions.push(Condition { argument: arg.index, compare, value });
    }
    let repeated = (0..6).any(|index| conditions.iter().filter(|c| c.argument == index).count() > 1);
    Ok(if repeated { conditions.into_iter().map(|c| vec![c]).collect() } else { vec![conditions] })
}

/// SECCOMP_RET_* of linux/seccomp.h
fn action(name: &str, errno: Option<u32>, pointer: &str) -> Result<u32> {
    let errno = errno.unwrap_or(libc::EPERM as u32);
    if errno > 4095 {
        return Err(invalid(format!("{pointer}: errno {errno} is above 4095")));
    }
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => ERRNO | errno,
        "SCMP_ACT_TRACE" => 0x7FF0_0000 | errno,
        "SCMP_ACT_LOG" => 0x7FFC_0000,
        "SCMP_ACT_ALLOW" => 0x7FFF_0000,
        NOTIFY => 0x7FC0_0000,
        other => return Err(invalid(format!("{pointer}: unknown action {other:?}"))),
    })
}

fn invalid(message: String) -> Failure {
    Failure::invalid("seccomp", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ALLOW: u32 = 0x7FFF_0000;
    const EPERM: u32 = 0x0005_0001;

    /// What the kernel's interpreter would answer.
    fn run(program: &[Instruction], audit: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&number.to_ne_bytes());
        data[4..8].copy_from_slice(&audit.to_ne_bytes());
        for (i, arg) in args.iter().enumerate() {
            data[16 + 8 * i..24 + 8 * i].copy_from_slice(&arg.to_ne_bytes());
        }
        let (mut pc, mut a) = (0usize, 0u32);
        loop {
            let Instruction { code, jt, jf, k } = program[pc];
            pc += 1;
            let branch = |yes: bool| if yes { jt as usize } else { jf as usize };
            match code {
                0x20 => a = u32::from_ne_bytes(data[k as usize..k as usize + 4].try_into().unwrap()),
                0x54 => a &= k,
                0x05 => pc += k as usize,
                0x15 => pc += branch(a == k),
                0x25 => pc += branch(a > k),
                0x35 => pc += branch(a >= k),
                0x06 => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn x86(section: serde_json::Value) -> impl Fn(u32, [u64; 6]) -> u32 {
        let program = compile(&section, Architecture::X86_64).unwrap().program;
        move |number, args| run(&program, 0xC000_003E, number, args)
    }

    #[test]
    fn decides_every_number_as_listed() {
        let numbers = syscalls(Architecture::X86_64);
        let allowed: Vec<&str> = numbers.keys().copied().filter(|name| name.len() % 3 != 0).collect();
        let filter = x86(
            json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": allowed, "action": "SCMP_ACT_ALLOW"}]}),
        );
        for (name, number) in &numbers {
            let wanted = if allowed.contains(name) { ALLOW } else { EPERM };
            assert_eq!(filter(*number, [0; 6]), wanted, "{name}");
        }
        assert_eq!(filter(5000, [0; 6]), 0x0005_0026, "newer than the table: ENOSYS");
        assert_eq!(filter(X32_BIT, [0; 6]), EPERM, "x32 read");
    }

    #[test]
    fn neighbours_with_one_answer_are_one_range() {
        let numbers = syscalls(Architecture::X86_64);
        let names: Vec<&str> = numbers.iter().filter(|(_, number)| **number < 100).map(|(name, _)| *name).collect();
        let section =
            json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]});
        let program = compile(&section, Architecture::X86_64).unwrap().program;
        // numbers from 0, from 100, and newer than the table
        assert_eq!(program.iter().filter(|instruction| instruction.code == 0x06).count(), 5, "{program:?}");
        for number in numbers.values() {
            let wanted = if *number < 100 { ALLOW } else { EPERM };
            assert_eq!(run(&program, 0xC000_003E, *number, [0; 6]), wanted, "{number}");
        }
    }

    #[test]
    fn another_architecture_gets_the_default() {
        let section =
            json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]});
        let program = compile(&section, Architecture::X86_64).unwrap().program;
        assert_eq!(run(&program, 0x4000_0003, 0, [0; 6]), EPERM);
    }

    #[test]
    fn a_listed_32_bit_architecture_has_its_own_numbers() {
        let section = json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [{"names": ["read", "chown32"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]});
        let program = compile(&section, Architecture::X86_64).unwrap().program;
        let i386 = |number| run(&program, 0x4000_0003, number, [0; 6]);
        // read is 3, chown32 212, clone3 435; 0 is read on x86_64 only
        assert_eq!([3, 212, 435, 0].map(i386), [ALLOW, ALLOW, 0x0005_0026, EPERM]);
        assert_eq!([0, 3].map(|number| run(&program, 0xC000_003E, number, [0; 6])), [ALLOW, EPERM]);
        assert_eq!(run(&program, 0xC000_00B7, 0, [0; 6]), EPERM, "not listed");
        let arm = json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
            "syscalls": [{"names": ["read", "set_tls"], "action": "SCMP_ACT_ALLOW"}]});
        let program = compile(&arm, Architecture::Aarch64).unwrap().program;
        assert_eq!([3, 0xF_0005, 63].map(|n| run(&program, 0x4000_0028, n, [0; 6])), [ALLOW, ALLOW, EPERM]);
        assert_eq!(run(&program, 0xC000_00B7, 63, [0; 6]), ALLOW);
    }

    #[test]
    fn compares_64_bit_arguments() {
        type Case = (&'static str, u64, u64, &'static [(u64, bool)]);
        let cases: [Case; 7] = [
            ("SCMP_CMP_EQ", 1 << 33, 0, &[(1 << 33, true), (0, false), ((1 << 33) + 1, false)]),
            ("SCMP_CMP_NE", 7, 0, &[(7, false), (8, true), (7 + (1 << 32), true)]),
            ("SCMP_CMP_LT", 38, 0, &[(37, true), (38, false), (1 << 32, false), (39, false)]),
            ("SCMP_CMP_LE", 1 << 32, 0, &[(1 << 32, true), ((1 << 32) + 1, false), (5, true)]),
            ("SCMP_CMP_GT", 40, 0, &[(40, false), (41, true), (1 << 40, true)]),
            ("SCMP_CMP_GE", 40, 0, &[(39, false), (40, true), (1 << 40, true)]),
            ("SCMP_CMP_MASKED_EQ", 0x7E02_0000, 0, &[(0x11, true), (0x1000_0000, false), (0x2_0000, false)]),
        ];
        for (op, value, two, expectations) in cases {
            let filter = x86(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 2, "value": value, "valueTwo": two, "op": op}]}]}));
            for (argument, holds) in expectations {
                let wanted = if *holds { ALLOW } else { EPERM };
                assert_eq!(filter(56, [0, 0, *argument, 0, 0, 0]), wanted, "{op} {value:#x} on {argument:#x}");
            }
        }
    }

    #[test]
    fn alternatives_and_conjunctions() {
        let filter = x86(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}]},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}));
        assert_eq!([0, 8, 9].map(|p| filter(135, [p, 0, 0, 0, 0, 0])), [ALLOW, ALLOW, EPERM]);
        assert_eq!(filter(41, [2, 1, 0, 0, 0, 0]), ALLOW);
        assert_eq!(filter(41, [2, 2, 0, 0, 0, 0]), EPERM);
        assert_eq!(filter(435, [0; 6]), 0x0005_0026);
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for (section, word) in [
            (json!({"defaultAction": "SCMP_ACT_MAYBE"}), "/linux/seccomp/defaultAction"),
            (json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}), "/linux/seccomp/flags/0"),
            (json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x"}), "/linux/seccomp/defaultAction"),
            (
                json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}),
                "needs a listenerPath",
            ),
            (
                json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}),
                "syscalls/0/args/0/index",
            ),
        ] {
            assert!(compile(&section, Architecture::Aarch64).unwrap_err().message.contains(word));
        }
    }
}
