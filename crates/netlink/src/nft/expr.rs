//! A rule's expressions. Each method adds what the sentence says; registers are chosen here.

use std::net::Ipv4Addr;

use super::abi::*;
use crate::address::Family;
use crate::message::Attrs;

const META_MARK: u32 = 3;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_IIFKIND: u32 = 26;
const META_OIFKIND: u32 = 27;
const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;
const PAYLOAD_NETWORK: u32 = 1;
const PAYLOAD_TRANSPORT: u32 = 2;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CT_STATE_ESTABLISHED_RELATED: u32 = 2 | 4;
/// IPS_DST_NAT
const CT_STATUS_DNAT: u32 = 1 << 5;
const FIB_RESULT_ADDRTYPE: u32 = 3;
const FIB_DADDR: u32 = 2;
const RTN_LOCAL: u32 = 2;
const DYNSET_ADD: u32 = 0;
const NAT_SNAT: u32 = 0;
const NAT_DNAT: u32 = 1;
const IFNAMSIZ: usize = 16;

/// What differs between the families in a rule.
impl Family {
    pub fn protocol(self) -> u8 {
        if self == Self::V4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 }
    }

    fn source(self) -> u32 {
        if self == Self::V4 { 12 } else { 8 }
    }

    fn destination(self) -> u32 {
        if self == Self::V4 { 16 } else { 24 }
    }

    fn length(self) -> u32 {
        if self == Self::V4 { 4 } else { 16 }
    }

    /// Registers that an address fills.
    fn registers(self) -> u32 {
        self.length() / 4
    }
}

#[derive(Debug, Clone, Default)]
pub struct Expressions(Attrs);

impl Expressions {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn attrs(&self) -> &Attrs {
        &self.0
    }

    fn add(mut self, name: &str, fill: impl FnOnce(&mut Attrs)) -> Self {
        self.0.nest(LIST_ELEM, |element| {
            element.string(EXPR_NAME, name).nest(EXPR_DATA, fill);
        });
        self
    }

    fn meta(self, key: u32, register: u32) -> Self {
        self.add("meta", |data| {
            data.be32(1, register).be32(2, key);
        })
    }

    fn ct(self, key: u32) -> Self {
        self.add("ct", |data| {
            data.be32(1, REG32_00).be32(2, key);
        })
    }

    fn payload(self, base: u32, offset: u32, length: u32, register: u32) -> Self {
        self.add("payload", |data| {
            data.be32(1, register).be32(2, base).be32(3, offset).be32(4, length);
        })
    }

    fn compare(self, operator: u32, value: &[u8]) -> Self {
        self.add("cmp", |data| {
            data.be32(1, REG32_00).be32(2, operator).nest(3, |inner| {
                inner.attr(DATA_VALUE, value);
            });
        })
    }

    fn masked(self, mask: &[u8; 4]) -> Self {
        self.bitwise(mask, &[0; 4])
    }

    fn bitwise(self, mask: &[u8; 4], xor: &[u8; 4]) -> Self {
        self.add("bitwise", |data| {
            data.be32(1, REG32_00).be32(2, REG32_00).be32(3, 4);
            data.nest(4, |inner| {
                inner.attr(DATA_VALUE, mask);
            });
            data.nest(5, |inner| {
                inner.attr(DATA_VALUE, xor);
            });
        })
    }

    fn lookup(self, set: &str, result: Option<u32>) -> Self {
        self.add("lookup", |data| {
            data.string(1, set).be32(2, REG32_00);
            if let Some(register) = result {
                data.be32(3, register);
            }
        })
    }

    /// The destination's address is an element of the set from now on.
    pub fn note_destination(self, family: Family, set: &str) -> Self {
        self.payload(PAYLOAD_NETWORK, family.destination(), family.length(), REG32_00).add("dynset", |data| {
            data.string(1, set).be32(3, DYNSET_ADD).be32(4, REG32_00);
        })
    }

    fn verdict(self, code: i32, chain: Option<&str>) -> Self {
        self.add("immediate", |data| {
            data.be32(1, 0).nest(2, |inner| {
                inner.nest(DATA_VERDICT, |verdict| {
                    verdict.be32(VERDICT_CODE, code.cast_unsigned());
                    if let Some(chain) = chain {
                        verdict.string(VERDICT_CHAIN, chain);
                    }
                });
            });
        })
    }

    pub fn accept(self) -> Self {
        self.verdict(ACCEPT, None)
    }

    pub fn drop(self) -> Self {
        self.verdict(DROP, None)
    }

    pub fn jump(self, chain: &str) -> Self {
        self.verdict(JUMP, Some(chain))
    }

    pub fn family(self, family: Family) -> Self {
        self.meta(META_NFPROTO, REG32_00).compare(CMP_EQ, &[family.protocol()])
    }

    pub fn in_device_of(self, set: &str) -> Self {
        self.meta(META_IIFNAME, REG32_00).lookup(set, None)
    }

    pub fn out_device_of(self, set: &str) -> Self {
        self.meta(META_OIFNAME, REG32_00).lookup(set, None)
    }

    /// The device that the packet came by, and its family.
    pub fn in_family_of(self, set: &str) -> Self {
        self.meta(META_IIFNAME, REG32_00).meta(META_NFPROTO, REG32_00 + 4).lookup(set, None)
    }

    pub fn out_family_of(self, set: &str) -> Self {
        self.meta(META_OIFNAME, REG32_00).meta(META_NFPROTO, REG32_00 + 4).lookup(set, None)
    }

    /// The device that the packet leaves by, and its protocol.
    pub fn out_protocol_of(self, set: &str) -> Self {
        self.meta(META_OIFNAME, REG32_00).meta(META_L4PROTO, REG32_00 + 4).lookup(set, None)
    }

    /// In by one device and out by the other, as a pair in the set.
    pub fn devices_in(self, set: &str) -> Self {
        self.meta(META_IIFNAME, REG32_00).meta(META_OIFNAME, REG32_00 + 4).lookup(set, None)
    }

    /// The source's network is that of the device that the packet leaves by. Where bridged packets pass here, the device
    /// that they came by is not known any more.
    pub fn stays_in(self, family: Family, set: &str) -> Self {
        self.family(family)
            .payload(PAYLOAD_NETWORK, family.source(), family.length(), REG32_00)
            .meta(META_OIFNAME, REG32_00 + family.registers())
            .lookup(set, None)
    }

    /// Sets a bit of the mark and leaves the others, which are other people's.
    pub fn set_mark(self, bit: u32) -> Self {
        self.meta(META_MARK, REG32_00).bitwise(&(!bit).to_ne_bytes(), &bit.to_ne_bytes()).add("meta", |data| {
            data.be32(2, META_MARK).be32(3, REG32_00);
        })
    }

    pub fn marked(self, bit: u32) -> Self {
        self.meta(META_MARK, REG32_00).masked(&bit.to_ne_bytes()).compare(CMP_NEQ, &[0; 4])
    }

    /// The same in the words of `iptables -m mark --mark BIT/BIT`.
    pub fn xt_marked(self, bit: u32) -> Self {
        // struct xt_mark_mtinfo1: mark, mask, invert.
        let mut info = [0; 16];
        info[..4].copy_from_slice(&bit.to_ne_bytes());
        info[4..8].copy_from_slice(&bit.to_ne_bytes());
        self.add("match", |data| {
            data.string(1, "mark").be32(2, 1).attr(3, &info);
        })
    }

    pub fn established(self) -> Self {
        self.ct(CT_STATE).masked(&CT_STATE_ESTABLISHED_RELATED.to_ne_bytes()).compare(CMP_NEQ, &[0; 4])
    }

    /// The flow's destination was translated: it came in by a published port.
    pub fn published(self) -> Self {
        self.ct(CT_STATUS).masked(&CT_STATUS_DNAT.to_ne_bytes()).compare(CMP_NEQ, &[0; 4])
    }

    /// Neither end is a bridge: no engine's containers are meant, the host would be a router.
    pub fn between_plain_devices(self) -> Self {
        let kind = device("bridge");
        self.meta(META_IIFKIND, REG32_00).compare(CMP_NEQ, &kind).meta(META_OIFKIND, REG32_00).compare(CMP_NEQ, &kind)
    }

    /// The destination is an address of this host, whichever it has at the moment.
    pub fn local_destination(self) -> Self {
        let fib = self.add("fib", |data| {
            data.be32(1, REG32_00).be32(2, FIB_RESULT_ADDRTYPE).be32(3, FIB_DADDR);
        });
        fib.compare(CMP_EQ, &RTN_LOCAL.to_ne_bytes())
    }

    pub fn not_to_loopback(self, family: Family) -> Self {
        let destination = self.family(family).payload(PAYLOAD_NETWORK, family.destination(), family.length(), REG32_00);
        match family {
            Family::V4 => destination.masked(&[255, 0, 0, 0]).compare(CMP_NEQ, &[127, 0, 0, 0]),
            Family::V6 => destination.compare(CMP_NEQ, &std::net::Ipv6Addr::LOCALHOST.octets()),
        }
    }

    /// `ip daddr . meta l4proto . th dport` → address and port in `map`.
    pub fn dnat_by_address(self, family: Family, map: &str) -> Self {
        self.destination(family).lookup(map, Some(REG32_00)).dnat(family)
    }

    pub fn destined_in(self, family: Family, set: &str) -> Self {
        self.destination(family).lookup(set, None)
    }

    /// Address, protocol and port.
    fn destination(self, family: Family) -> Self {
        let next = REG32_00 + family.registers();
        self.family(family)
            .payload(PAYLOAD_NETWORK, family.destination(), family.length(), REG32_00)
            .meta(META_L4PROTO, next)
            .payload(PAYLOAD_TRANSPORT, 2, 2, next + 1)
    }

    /// `meta l4proto . th dport` → address and port in `map`.
    pub fn dnat_by_port(self, family: Family, map: &str) -> Self {
        self.family(family)
            .meta(META_L4PROTO, REG32_00)
            .payload(PAYLOAD_TRANSPORT, 2, 2, REG32_00 + 1)
            .lookup(map, Some(REG32_00))
            .dnat(family)
    }

    /// The destination's address, protocol and port are these.
    pub fn sent_to(self, address: Ipv4Addr, protocol: u8, port: u16) -> Self {
        self.family(Family::V4)
            .payload(PAYLOAD_NETWORK, Family::V4.destination(), 4, REG32_00)
            .compare(CMP_EQ, &address.octets())
            .meta(META_L4PROTO, REG32_00)
            .compare(CMP_EQ, &[protocol])
            .payload(PAYLOAD_TRANSPORT, 2, 2, REG32_00)
            .compare(CMP_EQ, &port.to_be_bytes())
    }

    pub fn dnat_to(self, address: Ipv4Addr, port: u16) -> Self {
        let [high, low] = port.to_be_bytes();
        self.load(REG32_00, &address.octets()).load(REG32_00 + 1, &[high, low, 0, 0]).dnat(Family::V4)
    }

    fn load(self, register: u32, value: &[u8]) -> Self {
        self.add("immediate", |data| {
            data.be32(1, register).nest(2, |inner| {
                inner.attr(DATA_VALUE, value);
            });
        })
    }

    fn dnat(self, family: Family) -> Self {
        self.add("nat", |data| {
            data.be32(1, NAT_DNAT).be32(2, u32::from(family.protocol()));
            data.be32(3, REG32_00).be32(5, REG32_00 + family.registers());
        })
    }

    /// The device that the packet came by → source address in `map`.
    pub fn snat_by_device(self, family: Family, map: &str) -> Self {
        self.family(family).meta(META_IIFNAME, REG32_00).lookup(map, Some(REG32_00)).add("nat", |data| {
            data.be32(1, NAT_SNAT).be32(2, u32::from(family.protocol())).be32(3, REG32_00);
        })
    }

    pub fn masquerade(self) -> Self {
        self.add("masq", |_| {})
    }
}

/// A device's name fills its register, so that a longer name that begins alike is another one.
pub fn device(name: &str) -> [u8; IFNAMSIZ] {
    let mut bytes = [0; IFNAMSIZ];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes
}
