//! `cgroupUpdate`, `cgroupFreeze`, `cgroupKill`, `cgroupPids`, `cgroupStats`, `compileSeccomp`, `signalProcess`.

use super::promise::on_thread;
use crate::container::start_time;
use crate::failure::Failure;
use crate::failure::{Context, Kind};
use crate::spec::Resources;
use crate::sys::signal;
use crate::{cgroup, seccomp};
use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;
use serde_json::Value;
use std::os::fd::AsFd;

#[napi(ts_return_type = "Promise<object>")]
pub fn cgroup_update(env: &Env, cgroup: String, resources: Value) -> napi::Result<Object<'_>> {
    let resources: Resources = serde_json::from_value(resources)?;
    on_thread(env, "cgroup", move || cgroup::open(&cgroup)?.set(&resources))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn cgroup_freeze(env: &Env, cgroup: String, frozen: bool) -> napi::Result<Object<'_>> {
    on_thread(env, "cgroup", move || cgroup::freeze(&cgroup, frozen))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn cgroup_kill(env: &Env, cgroup: String, signal: i32) -> napi::Result<Object<'_>> {
    on_thread(env, "cgroup", move || cgroup::open(&cgroup)?.kill(signal))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn cgroup_pids(env: &Env, cgroup: String) -> napi::Result<Object<'_>> {
    on_thread(env, "cgroup", move || cgroup::open(&cgroup)?.pids())
}

#[napi(ts_return_type = "Promise<object>")]
pub fn cgroup_stats(env: &Env, cgroup: String) -> napi::Result<Object<'_>> {
    on_thread(env, "cgroup", move || cgroup::open(&cgroup)?.stats())
}

#[derive(Deserialize)]
struct SeccompOptions {
    seccomp: Value,
    path: String,
}

#[napi(ts_return_type = "Promise<object>")]
pub fn compile_seccomp(env: &Env, options: Value) -> napi::Result<Object<'_>> {
    let options: SeccompOptions = serde_json::from_value(options)?;
    on_thread(env, "seccomp", move || {
        let filter = seccomp::compile(&options.seccomp, seccomp::Architecture::NATIVE)?;
        seccomp::save(&filter, options.path.as_ref())
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    pid: i32,
    start_time: u64,
    signal: i32,
}

/// The pidfd is opened first and the start time compared after: from then on it cannot be another process.
#[napi(ts_return_type = "Promise<object>")]
pub fn signal_process(env: &Env, process: Value) -> napi::Result<Object<'_>> {
    let target: Target = serde_json::from_value(process)?;
    on_thread(env, "signal", move || {
        let gone = || {
            let message = format!("process {} has ended", target.pid);
            Failure::new(Kind::Gone, "signal", message)
        };
        let pid = Pid::from_raw(target.pid).ok_or_else(gone)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
        if start_time(target.pid).map_err(|_| gone())? != target.start_time {
            return Err(gone());
        }
        match signal::send(pidfd.as_fd(), target.signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(gone()),
            result => result.context("signal", target.pid),
        }
    })
}
