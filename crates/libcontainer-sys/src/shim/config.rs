//! `stateDir/config.json`: what the daemon wrote for the shim. The types of `ContainerConfig` in
//! `ts/engine/native/containers.ts`, defined once for both sides.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::spec::{ConsoleSize, Rootfs, Spec, UserSpec};

#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct ContainerConfig {
    pub id: String,
    pub spec: Spec,
    pub rootfs: Rootfs,
    pub state_dir: PathBuf,
    pub shim_cgroup: String,
    pub process: UserSpec,
    pub stdio: Stdio,
    #[serde(default)]
    pub log: LogConfig,
    #[serde(default)]
    pub init: bool,
    /// Inherited descriptor of the network namespace.
    pub netns_fd: Option<i32>,
    #[serde(default)]
    pub ports: Vec<PortSocket>,
    /// Who builds the container in place of the shim.
    pub runtime: Option<ForeignRuntime>,
}

/// An OCI runtime's command line.
#[derive(Deserialize, Debug, Clone)]
pub struct ForeignRuntime {
    pub path: PathBuf,
    /// Before all others.
    #[serde(default)]
    pub args: Vec<String>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub struct Stdio {
    #[serde(default)]
    pub tty: bool,
    #[serde(default)]
    pub open_stdin: bool,
    #[serde(default)]
    pub stdin_once: bool,
    pub console_size: Option<ConsoleSize>,
}

#[derive(Deserialize, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    JsonFile,
    Local,
    #[default]
    None,
}

#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub struct LogConfig {
    #[serde(default)]
    pub driver: LogDriver,
    pub path: Option<PathBuf>,
    pub max_size_bytes: Option<u64>,
    pub max_files: Option<u32>,
    #[serde(default)]
    pub compress: bool,
    pub max_buffer_bytes: Option<u64>,
    #[serde(default)]
    pub attrs: BTreeMap<String, String>,
}

/// A socket in the host's namespace, inherited under `fd`; in the `port` message it comes beside it.
#[derive(Deserialize, Debug, Clone)]
#[serde(rename_all = "camelCase")]
pub struct PortSocket {
    #[serde(default)]
    pub fd: i32,
    pub proto: String,
    #[serde(default)]
    pub host_ip: String,
    #[serde(default)]
    pub host_port: u16,
    /// Empty in the `port` message: the port is given back.
    pub container_ip: String,
    pub container_port: u16,
}

/// Body of the `attach` message and part of `exec`; the client's connection comes beside it.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct ClientConfig {
    pub head: String,
    /// Base 16, so that any byte passes through JSON.
    #[serde(default)]
    pub early: String,
    #[serde(default)]
    pub stdin: bool,
    #[serde(default)]
    pub stdout: bool,
    #[serde(default)]
    pub stderr: bool,
    #[serde(default)]
    pub raw: bool,
    #[serde(default)]
    pub detach_keys: Vec<u8>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct ExecConfig {
    pub exec_id: String,
    /// Of the specification; each kind of container reads it in its own way.
    pub process: Box<RawValue>,
    #[serde(default)]
    pub user: UserSpec,
    #[serde(default)]
    pub privileged: bool,
    #[serde(default)]
    pub tty: bool,
    #[serde(default)]
    pub open_stdin: bool,
    pub console_size: Option<ConsoleSize>,
    pub client: Option<ClientConfig>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct ResizeConfig {
    pub exec_id: Option<String>,
    pub width: u16,
    pub height: u16,
}

/// The end that the daemon knows of: an exec's, or the container's.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct AckConfig {
    pub exec_id: Option<String>,
}

#[derive(Deserialize, Debug)]
pub struct SignalConfig {
    pub signal: i32,
}
