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
    let filter =
        x86(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": allowed, "action": "SCMP_ACT_ALLOW"}]}));
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
