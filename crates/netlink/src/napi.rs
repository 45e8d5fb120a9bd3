//! Adapter for Node: convert, call, convert. `ts/engine/native/index.ts` is the contract.
//!
//! Every call runs on a thread of its own: libuv's pool has four and is shared with everything else in Node. Promises
//! resolve to a `NativeResult`, `{ ok }` or `{ error }`, and are never rejected.

use std::os::fd::{IntoRawFd, RawFd};
use std::sync::{Mutex, PoisonError};

use napi::bindgen_prelude::{Function, JsObjectValue, Object};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Env, JsDeferred};
use napi_derive::napi;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{NetError, Result, invalid};
use crate::sys;
use crate::{
    BridgeOptions, BridgeRules, Change, ChildOptions, DeviceRoutes, EndpointOptions, Family, Firewall, FirewallMode,
    PortRequest, PublishedPort, Ruleset, Watch,
};

type Resolver = Box<dyn FnOnce(Env) -> napi::Result<Value> + Send>;

/// The one owner of our tables: see `Firewall`.
static FIREWALL: Mutex<Option<Firewall>> = Mutex::new(None);

fn failure(error: &NetError) -> Value {
    let mut failure = json!({
        "kind": error.kind(),
        "op": error.op(),
        "path": error.object(),
        "message": error.to_string(),
    });
    if let Some(errno) = error.errno() {
        failure["errno"] = errno.raw_os_error().into();
    }
    json!({ "error": failure })
}

fn on_thread<'env, T, W>(env: &'env Env, name: &'static str, work: W) -> napi::Result<Object<'env>>
where
    T: Serialize,
    W: FnOnce() -> Result<T> + Send + 'static,
{
    let (deferred, promise): (JsDeferred<Value, Resolver>, _) = env.create_deferred()?;
    std::thread::Builder::new().name(name.into()).stack_size(512 * 1024).spawn(move || {
        let answer = work().map_or_else(|error| failure(&error), |value| json!({ "ok": value }));
        deferred.resolve(Box::new(move |_| Ok(answer)));
    })?;
    Ok(promise)
}

fn read<T: DeserializeOwned>(op: &'static str, options: Value) -> Result<T> {
    serde_json::from_value(options).map_err(|error| invalid(op, "options", error.to_string()))
}

/// For lists: a property at a time they take ten times as long to cross.
fn stringify(env: &Env, list: Object<'_>) -> napi::Result<String> {
    let json: Object = env.get_global()?.get_named_property("JSON")?;
    json.get_named_property::<Function<Object, String>>("stringify")?.call(list)
}

fn parse<T: DeserializeOwned>(op: &'static str, list: &str) -> Result<T> {
    serde_json::from_str(list).map_err(|error| invalid(op, "options", error.to_string()))
}

/// Opened by the first call and kept: the kernel binds a table to the socket that made it.
fn firewall<T>(work: impl FnOnce(&mut Firewall) -> Result<T>) -> Result<T> {
    let mut held = FIREWALL.lock().unwrap_or_else(PoisonError::into_inner);
    let firewall = match held.take() {
        Some(firewall) => held.insert(firewall),
        None => held.insert(Firewall::open()?),
    };
    work(firewall)
}

#[napi(ts_return_type = "Promise<object>")]
pub fn create_netns(env: &Env) -> napi::Result<Object<'_>> {
    on_thread(env, "create-netns", || crate::create_netns().map(IntoRawFd::into_raw_fd))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn ensure_bridge(env: &Env, options: Value) -> napi::Result<Object<'_>> {
    on_thread(env, "ensure-bridge", || crate::ensure_bridge(&read::<BridgeOptions>("create bridge", options)?))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn delete_link(env: &Env, name: String) -> napi::Result<Object<'_>> {
    on_thread(env, "delete-link", move || crate::delete_link(&name))
}

#[napi]
pub fn stop_advertising(name: String) {
    crate::stop_advertising(&name);
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndpointCall {
    netns_fd: RawFd,
    #[serde(flatten)]
    options: EndpointOptions,
}

#[napi(ts_return_type = "Promise<object>")]
pub fn create_endpoint(env: &Env, options: Value) -> napi::Result<Object<'_>> {
    on_thread(env, "create-endpoint", || {
        let call: EndpointCall = read("create endpoint", options)?;
        if call.netns_fd < 0 {
            return Err(invalid("create endpoint", &call.netns_fd.to_string(), "not a file descriptor"));
        }
        crate::create_endpoint(&call.options, sys::borrow(call.netns_fd))
    })
}

/// Tells of what others do to the table (`ours`) and to their own chains (`foreign`), for as long as the process lives.
#[napi(ts_return_type = "Promise<object>")]
pub fn watch_firewall<'env>(
    env: &'env Env,
    table: String,
    on_change: Function<'env, Value, ()>,
) -> napi::Result<Object<'env>> {
    // Weak: events alone keep no process alive.
    let on_change = on_change.build_threadsafe_function().weak::<true>().build()?;
    on_thread(env, "watch-firewall", move || {
        let mut watch = Watch::open(&table, firewall(|firewall| firewall.port_id())?)?;
        let follow = move || {
            while let Ok(change) = watch.wait() {
                let name = if change == Change::Ours { "ours" } else { "foreign" };
                if on_change.call(name.into(), ThreadsafeFunctionCallMode::NonBlocking) != napi::Status::Ok {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("nft-watch".into())
            .stack_size(256 * 1024)
            .spawn(follow)
            .map(|_| ())
            .map_err(|error| invalid("watch firewall", &table, error.to_string()))
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChildCall {
    netns_fd: RawFd,
    #[serde(flatten)]
    options: ChildOptions,
}

#[napi(ts_return_type = "Promise<object>")]
pub fn create_child(env: &Env, options: Value) -> napi::Result<Object<'_>> {
    on_thread(env, "create-child", || {
        let call: ChildCall = read("create endpoint", options)?;
        if call.netns_fd < 0 {
            return Err(invalid("create endpoint", &call.netns_fd.to_string(), "not a file descriptor"));
        }
        crate::create_child(&call.options, sys::borrow(call.netns_fd))
    })
}

#[napi(ts_return_type = "Promise<object>")]
pub fn ensure_parent(env: &Env, name: String, dummy: bool) -> napi::Result<Object<'_>> {
    on_thread(env, "ensure-parent", move || crate::ensure_parent(&name, dummy))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn delete_own_link(env: &Env, name: String) -> napi::Result<Object<'_>> {
    on_thread(env, "delete-own-link", move || crate::delete_own_link(&name))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn link_addresses(env: &Env, name: String) -> napi::Result<Object<'_>> {
    on_thread(env, "link-addresses", move || crate::link_addresses(&name))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn delete_child(env: &Env, netns_fd: RawFd, name: String) -> napi::Result<Object<'_>> {
    on_thread(env, "delete-child", move || {
        if netns_fd < 0 {
            return Err(invalid("delete link", &netns_fd.to_string(), "not a file descriptor"));
        }
        crate::delete_child(sys::borrow(netns_fd), &name)
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DefaultRoutesCall {
    netns_fd: RawFd,
    routes: Vec<DeviceRoutes>,
}

#[napi(ts_return_type = "Promise<object>")]
pub fn set_default_routes(env: &Env, options: Value) -> napi::Result<Object<'_>> {
    on_thread(env, "default-routes", || {
        let call: DefaultRoutesCall = read("set default route", options)?;
        if call.netns_fd < 0 {
            return Err(invalid("set default route", &call.netns_fd.to_string(), "not a file descriptor"));
        }
        crate::set_default_routes(sys::borrow(call.netns_fd), &call.routes)
    })
}

#[napi(ts_return_type = "Promise<object>")]
pub fn set_sysctls(env: &Env, netns_fd: RawFd, sysctls: Value) -> napi::Result<Object<'_>> {
    on_thread(env, "set-sysctls", move || {
        if netns_fd < 0 {
            return Err(invalid("set sysctl", &netns_fd.to_string(), "not a file descriptor"));
        }
        crate::set_sysctls(sys::borrow(netns_fd), &read("set sysctl", sysctls)?)
    })
}

#[napi(ts_return_type = "Promise<object>")]
pub fn create_resolver_sockets(env: &Env, netns_fd: RawFd) -> napi::Result<Object<'_>> {
    on_thread(env, "resolver-sockets", move || {
        if netns_fd < 0 {
            return Err(invalid("create resolver sockets", &netns_fd.to_string(), "not a file descriptor"));
        }
        let sockets = crate::create_resolver_sockets(sys::borrow(netns_fd))?;
        Ok(json!({ "udpFd": sockets.udp.into_raw_fd(), "tcpFd": sockets.tcp.into_raw_fd() }))
    })
}

#[napi(ts_return_type = "Promise<object>")]
pub fn apply_ruleset<'env>(env: &'env Env, ruleset: Object<'env>) -> napi::Result<Object<'env>> {
    let ruleset = stringify(env, ruleset)?;
    on_thread(env, "apply-ruleset", move || {
        let ruleset: Ruleset = parse("apply ruleset", &ruleset)?;
        firewall(|firewall| firewall.apply(&ruleset))
    })
}

#[napi(ts_return_type = "Promise<object>")]
pub fn refresh_foreign(env: &Env, table: String, mode: Value) -> napi::Result<Object<'_>> {
    on_thread(env, "refresh-foreign", move || {
        let mode: FirewallMode = read("apply ruleset", mode)?;
        firewall(|firewall| firewall.refresh_foreign(&table, mode))
    })
}

#[napi(ts_return_type = "Promise<object>")]
pub fn add_bridge_rules(env: &Env, table: String, rules: Value) -> napi::Result<Object<'_>> {
    on_thread(env, "add-bridge-rules", move || {
        let rules: BridgeRules = read("add bridge to firewall", rules)?;
        firewall(|firewall| firewall.add_bridge(&table, &rules))
    })
}

#[napi(ts_return_type = "Promise<object>")]
pub fn remove_bridge_rules(env: &Env, table: String, rules: Value) -> napi::Result<Object<'_>> {
    on_thread(env, "remove-bridge-rules", move || {
        let rules: BridgeRules = read("remove bridge from firewall", rules)?;
        firewall(|firewall| firewall.remove_bridge(&table, &rules))
    })
}

#[napi(ts_return_type = "Promise<object>")]
pub fn add_ports<'env>(env: &'env Env, table: String, ports: Object<'env>) -> napi::Result<Object<'env>> {
    let ports = stringify(env, ports)?;
    on_thread(env, "add-ports", move || {
        let ports: Vec<PublishedPort> = parse("publish port", &ports)?;
        firewall(|firewall| firewall.add_ports(&table, &ports))
    })
}

#[napi(ts_return_type = "Promise<object>")]
pub fn remove_ports<'env>(env: &'env Env, table: String, ports: Object<'env>) -> napi::Result<Object<'env>> {
    let ports = stringify(env, ports)?;
    on_thread(env, "remove-ports", move || {
        let ports: Vec<PublishedPort> = parse("publish port", &ports)?;
        firewall(|firewall| firewall.remove_ports(&table, &ports))
    })
}

#[napi(ts_return_type = "Promise<object>")]
pub fn delete_ruleset(env: &Env, table: String) -> napi::Result<Object<'_>> {
    on_thread(env, "delete-ruleset", move || firewall(|firewall| firewall.delete(&table)))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn reserve_ports<'env>(env: &'env Env, ports: Object<'env>) -> napi::Result<Object<'env>> {
    let ports = stringify(env, ports)?;
    on_thread(env, "reserve-ports", move || {
        let requests: Vec<PortRequest> = parse("reserve port", &ports)?;
        let reserved = crate::reserve_ports(&requests)?.into_iter();
        // Two lists of numbers: an object for each takes five times as long to cross.
        let (fds, host_ports): (Vec<_>, Vec<_>) = reserved.map(|port| (port.fd.into_raw_fd(), port.host_port)).unzip();
        Ok(json!({ "fds": fds, "hostPorts": host_ports }))
    })
}

#[napi(ts_return_type = "Promise<object>")]
pub fn list_routes(env: &Env) -> napi::Result<Object<'_>> {
    on_thread(env, "list-routes", crate::list_routes)
}

#[napi(ts_return_type = "Promise<object>")]
pub fn enable_forwarding(env: &Env, ipv6: bool, drops_foreign: bool) -> napi::Result<Object<'_>> {
    on_thread(env, "forwarding", move || {
        let family = if ipv6 { Family::V6 } else { Family::V4 };
        let switched_on = crate::enable_forwarding(family)?;
        if switched_on && drops_foreign {
            firewall(|firewall| {
                firewall.drop_foreign(family);
                Ok(())
            })?;
        }
        Ok(switched_on)
    })
}
