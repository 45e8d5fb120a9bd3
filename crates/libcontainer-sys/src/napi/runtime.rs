//! Shims and containers.

use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use napi::Env;
use napi::bindgen_prelude::{Function, JsObjectValue, Object, Uint8Array};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;
use serde_json::{Value, json};

use super::json::{stringify, to_value};
use super::promise::{Settle, on_thread, promise};
use crate::failure::{Failure, Kind};
use crate::supervisor::{self, Doomed, Hub, SpawnRequest, SpawnedPort};
use crate::sys::inherit;

static HUB: OnceLock<Arc<Hub>> = OnceLock::new();

fn hub() -> Result<Arc<Hub>, Failure> {
    HUB.get().cloned().ok_or_else(|| Failure::new(Kind::System, "runtime", "startRuntime was not called"))
}

/// Answers from the hub's thread; nothing of the answer is passed on.
fn settle_empty(settle: Settle) -> supervisor::Reply {
    Box::new(move |result| settle.with(result.map(|_| Value::Null)))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn start_runtime<'env>(env: &'env Env, options: Object<'env>) -> napi::Result<Object<'env>> {
    let shim_path: String = options.get_named_property("shimPath")?;
    let on_event: Function<Value, ()> = options.get_named_property("onEvent")?;
    // Weak: events alone keep no process alive.
    let on_event = on_event.build_threadsafe_function().weak::<true>().build()?;
    on_thread(env, "start-runtime", move || {
        let hub = Hub::start(
            shim_path.as_ref(),
            Box::new(move |event| {
                // Fails only while Node shuts down.
                let _ = on_event.call(event, ThreadsafeFunctionCallMode::NonBlocking);
            }),
        )?;
        match HUB.set(hub) {
            Ok(()) => Ok(Value::Null),
            Err(_) => Err(Failure::new(Kind::Conflict, "runtime", "startRuntime was called before")),
        }
    })
}

fn text(value: &Value, field: &str) -> Result<String, Failure> {
    match value[field].as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(Failure::invalid("config", format!("{field}: a string is needed"))),
    }
}

fn take(value: &Value) -> Result<OwnedFd, Failure> {
    let number = value.as_i64().and_then(|number| i32::try_from(number).ok()).unwrap_or(-1);
    inherit::take(number).map_err(|error| Failure::io("descriptor", number, error))
}

/// Takes the descriptors out of the options; those that were taken are closed when a later one is wrong.
fn spawn_request(config: &str) -> Result<SpawnRequest, Failure> {
    let mut config: Value =
        serde_json::from_str(config).map_err(|error| Failure::invalid("config", error.to_string()))?;
    let object =
        config.as_object_mut().ok_or_else(|| Failure::invalid("config", "the container's config is no object"))?;
    let netns = object.remove("netnsFd").filter(|fd| !fd.is_null()).map(|fd| take(&fd)).transpose()?;
    let mut ports = Vec::new();
    if let Some(Value::Array(sockets)) = object.remove("ports") {
        for description in sockets {
            ports.push(SpawnedPort { fd: take(&description["fd"])?, description });
        }
    }
    Ok(SpawnRequest {
        id: text(&config, "id")?,
        state_dir: text(&config, "stateDir")?.into(),
        cgroup: text(&config["spec"]["linux"], "cgroupsPath")?,
        config,
        netns,
        ports,
    })
}

#[napi(ts_return_type = "Promise<object>")]
pub fn spawn_shim<'env>(env: &'env Env, options: Object<'env>) -> napi::Result<Object<'env>> {
    let config = stringify(env, options)?;
    on_thread(env, "spawn-shim", move || {
        let request = spawn_request(&config)?;
        supervisor::spawn(&hub()?, request)
    })
}

#[napi(ts_return_type = "Promise<object>")]
pub fn start_container(env: &Env, id: String) -> napi::Result<Object<'_>> {
    forward(env, &id, "start", Value::Null)
}

/// Sends a request without descriptors whose answer has no content.
fn forward<'env>(env: &'env Env, id: &str, op: &str, body: Value) -> napi::Result<Object<'env>> {
    let (settle, promise) = promise(env)?;
    match hub() {
        Ok(hub) => hub.request(id, op, body, &[], settle_empty(settle)),
        Err(failure) => settle.with::<Value>(Err(failure)),
    }
    Ok(promise)
}

#[napi(ts_return_type = "Promise<object>")]
pub fn signal_container(env: &Env, id: String, signal: i32) -> napi::Result<Object<'_>> {
    forward(env, &id, "signal", json!({ "signal": signal }))
}

#[napi(object)]
pub struct AdoptOptions {
    pub id: String,
    pub state_dir: String,
}

#[napi(ts_return_type = "Promise<object>")]
pub fn adopt_shim(env: &Env, options: AdoptOptions) -> napi::Result<Object<'_>> {
    on_thread(env, "adopt-shim", move || supervisor::adopt(&hub()?, &options.id, options.state_dir.as_ref()))
}

#[napi(object)]
pub struct DestroyOptions {
    pub id: String,
    pub state_dir: String,
    pub cgroup: String,
}

#[napi(ts_return_type = "Promise<object>")]
pub fn destroy_container(env: &Env, options: DestroyOptions) -> napi::Result<Object<'_>> {
    on_thread(env, "destroy", move || {
        let doomed = Doomed { id: options.id, state_dir: PathBuf::from(options.state_dir), cgroup: options.cgroup };
        supervisor::destroy(&hub()?, &doomed)
    })
}

#[napi(object)]
pub struct ClientStream {
    pub fd: i32,
    pub head: String,
    pub early: Uint8Array,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub raw: bool,
    pub detach_keys: Vec<u32>,
}

impl ClientStream {
    /// The connection, and what the shim is told of it.
    fn split(self) -> Result<(OwnedFd, Value), Failure> {
        let fd = inherit::take(self.fd).map_err(|error| Failure::io("descriptor", self.fd, error))?;
        let early: String = self.early.iter().map(|byte| format!("{byte:02x}")).collect();
        let description = json!({
            "head": self.head,
            "early": early,
            "stdin": self.stdin,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "raw": self.raw,
            "detachKeys": self.detach_keys,
        });
        Ok((fd, description))
    }
}

#[napi(ts_return_type = "Promise<object>")]
pub fn attach(env: &Env, id: String, client: ClientStream) -> napi::Result<Object<'_>> {
    let (settle, promise) = promise(env)?;
    match hub().and_then(|hub| Ok((hub, client.split()?))) {
        Ok((hub, (fd, body))) => hub.request(&id, "attach", body, &[fd.as_fd()], settle_empty(settle)),
        Err(failure) => settle.with::<Value>(Err(failure)),
    }
    Ok(promise)
}

/// Numbers of clients count up from 0 and stay far below 2^53.
#[napi]
pub fn watch_client(container: String, fd: i32) -> napi::Result<i64> {
    let watched = hub().and_then(|hub| {
        let socket = inherit::duplicate(fd).map_err(|error| Failure::io("descriptor", fd, error))?;
        hub.watch(&container, socket)
    });
    watched.map(u64::cast_signed).map_err(|failure| napi::Error::from_reason(failure.message))
}

#[napi]
pub fn unwatch_client(client: i64) {
    if let Some(hub) = HUB.get() {
        hub.unwatch(client.cast_unsigned());
    }
}

#[napi(ts_return_type = "Promise<object>")]
pub fn exec<'env>(env: &'env Env, id: String, options: Object<'env>) -> napi::Result<Object<'env>> {
    let client: Option<ClientStream> = options.get("client")?;
    let mut body = to_value(env, options)?;
    let (settle, promise) = promise(env)?;
    let prepared = hub().and_then(|hub| Ok((hub, client.map(ClientStream::split).transpose()?)));
    match prepared {
        Ok((hub, client)) => {
            let (fd, description) = client.unzip();
            body["client"] = description.unwrap_or(Value::Null);
            let fds: Vec<_> = fd.iter().map(OwnedFd::as_fd).collect();
            let reply = Box::new(move |result: Result<Value, Failure>| settle.with(result));
            hub.request(&id, "exec", body, &fds, reply);
        }
        Err(failure) => settle.with::<Value>(Err(failure)),
    }
    Ok(promise)
}

#[napi]
pub fn acknowledge_exec(id: String, exec_id: String) {
    // A shim that has gone needs not be told.
    if let Some(hub) = HUB.get() {
        hub.request(&id, "ack", json!({ "execId": exec_id }), &[], Box::new(drop));
    }
}

#[napi(ts_return_type = "Promise<object>")]
pub fn resize<'env>(env: &'env Env, id: String, target: Object<'env>) -> napi::Result<Object<'env>> {
    let body = to_value(env, target)?;
    forward(env, &id, "resize", body)
}

/// Published ports of a container that is about to start, each with its `fd`, which is consumed.
#[napi(ts_return_type = "Promise<object>")]
pub fn give_ports<'env>(env: &'env Env, id: String, ports: Object<'env>) -> napi::Result<Object<'env>> {
    let ports = stringify(env, ports)?;
    on_thread(env, "give-ports", move || {
        let ports: Vec<Value> =
            serde_json::from_str(&ports).map_err(|error| Failure::invalid("ports", error.to_string()))?;
        let fds = ports.iter().map(|port| take(&port["fd"])).collect::<Result<Vec<_>, _>>()?;
        let hub = hub()?;
        for (ports, fds) in ports.chunks(supervisor::MAX_FDS).zip(fds.chunks(supervisor::MAX_FDS)) {
            let fds: Vec<_> = fds.iter().map(OwnedFd::as_fd).collect();
            hub.call(&id, "ports", ports.into(), &fds)?;
        }
        Ok(Value::Null)
    })
}

/// One more port with `fd` of at least 0, which is consumed; else where one that is held leads from now on.
#[napi(ts_return_type = "Promise<object>")]
pub fn change_port<'env>(env: &'env Env, id: String, port: Object<'env>) -> napi::Result<Object<'env>> {
    let fd: i32 = port.get("fd")?.unwrap_or(-1);
    let body = to_value(env, port)?;
    let (settle, promise) = promise(env)?;
    let socket = if fd < 0 { Ok(None) } else { inherit::take(fd).map(Some) };
    let socket = socket.map_err(|error| Failure::io("descriptor", fd, error));
    match socket.and_then(|socket| Ok((hub()?, socket))) {
        Ok((hub, fd)) => {
            let fds: Vec<_> = fd.iter().map(OwnedFd::as_fd).collect();
            hub.request(&id, "port", body, &fds, settle_empty(settle));
        }
        Err(failure) => settle.with::<Value>(Err(failure)),
    }
    Ok(promise)
}

#[napi(ts_return_type = "Promise<object>")]
pub fn keep_ports<'env>(env: &'env Env, id: String, ports: Object<'env>) -> napi::Result<Object<'env>> {
    let body = to_value(env, ports)?;
    let (settle, promise) = promise(env)?;
    match hub() {
        Ok(hub) => hub.request(&id, "keepPorts", body, &[], Box::new(move |result| settle.with(result))),
        Err(failure) => settle.with::<Value>(Err(failure)),
    }
    Ok(promise)
}

/// A duplicate of a socket that the container's shim holds, found by its `proto`.
#[napi(ts_return_type = "Promise<object>")]
pub fn held_socket(env: &Env, id: String, state_dir: String, proto: String) -> napi::Result<Object<'_>> {
    on_thread(env, "held-socket", move || {
        Ok(supervisor::held_socket(&hub()?, &id, state_dir.as_ref(), &proto)?.into_raw_fd())
    })
}

/// The container's network namespace, as a descriptor of ours.
#[napi(ts_return_type = "Promise<object>")]
pub fn container_netns(env: &Env, id: String) -> napi::Result<Object<'_>> {
    on_thread(env, "netns", move || Ok(supervisor::netns(&hub()?, &id)?.into_raw_fd()))
}
