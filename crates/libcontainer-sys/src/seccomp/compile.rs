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
mod tests;
