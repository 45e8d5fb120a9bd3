//! The command line that others see of this process.

use std::io;

/// `struct prctl_mm_map` of linux/prctl.h.
#[repr(C)]
struct Map {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// How this process lies in memory; read while /proc can be.
pub struct Layout(Map);

impl Layout {
    pub fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<u64> =
            stat.rsplit_once(") ")?.1.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        // the first is number 3 of proc(5)
        let field = |number: usize| fields.get(number - 3).copied();
        // SAFETY: brk(0) changes nothing and gives the present end.
        let brk = unsafe { libc::syscall(libc::SYS_brk, 0) } as u64;
        Some(Self(Map {
            start_code: field(26)?,
            end_code: field(27)?,
            start_data: field(45)?,
            end_data: field(46)?,
            start_brk: field(47)?,
            brk,
            start_stack: field(28)?,
            arg_start: field(48)?,
            arg_end: field(49)?,
            env_start: field(50)?,
            env_end: field(51)?,
            auxv: 0,
            auxv_size: 0,
            exe_fd: u32::MAX,
        }))
    }

    /// For the rest of this process's life. Fails on a kernel without checkpoint support; nothing has changed then.
    pub fn set_command_line(mut self, words: &[String]) -> io::Result<()> {
        const PR_SET_MM_MAP: libc::c_ulong = 14;
        let text: &'static mut [u8] = words.iter().flat_map(|word| word.bytes().chain([0])).collect::<Vec<u8>>().leak();
        self.0.arg_start = text.as_ptr() as u64;
        self.0.arg_end = self.0.arg_start + text.len() as u64;
        self.0.env_start = self.0.arg_end;
        self.0.env_end = self.0.arg_end;
        // SAFETY: brk(0) changes nothing and gives the present end.
        self.0.brk = unsafe { libc::syscall(libc::SYS_brk, 0) } as u64;
        let (map, size) = (&raw const self.0, size_of::<Map>());
        // SAFETY: map is a valid prctl_mm_map of the size given; the words that it names are never freed.
        let result = unsafe { libc::prctl(libc::PR_SET_MM, PR_SET_MM_MAP, map, size, 0) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
