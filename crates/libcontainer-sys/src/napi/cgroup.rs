//! `cgroupUpdate`, `cgroupFreeze`, `cgroupKill`, `cgroupPids`, `cgroupStats`, `compileSeccomp`, `signalProcess`.

use super::promise::on_thread;
use crate::container::start_time;
use crate::failure::Failure;
use crate::failure::{Context, Kind};
use crate::spec::Resources;
use crate::{cgroup, seccomp};
use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Deserialize;
use serde_json::Value;

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
        let signal = Signal::from_named_raw(target.signal)
            .ok_or_else(|| Failure::invalid("signal", format!("{} is not a signal", target.signal)))?;
        match pidfd_send_signal(&pidfd, signal) {
            Err(rustix::io::Errno::SRCH) => Err(gone()),
            result => Ok(result.context("signal", target.pid)?),
        }
    })
}
