//! Numbers of the kernel's nftables interface (`linux/netfilter/nf_tables.h`) that this crate uses.

pub const NFPROTO_INET: u8 = 1;
pub const NFPROTO_IPV4: u8 = 2;
pub const NFPROTO_IPV6: u8 = 10;

pub const NEWTABLE: u16 = 0;
pub const GETTABLE: u16 = 1;
pub const DELTABLE: u16 = 2;
pub const NEWCHAIN: u16 = 3;
pub const GETCHAIN: u16 = 4;
pub const NEWRULE: u16 = 6;
pub const GETRULE: u16 = 7;
pub const DELRULE: u16 = 8;
pub const NEWSET: u16 = 9;
pub const NEWSETELEM: u16 = 12;
pub const GETSETELEM: u16 = 13;
pub const DELSETELEM: u16 = 14;

pub const TABLE_NAME: u16 = 1;
pub const TABLE_FLAGS: u16 = 2;
/// Only the socket that made the table may change it (5.12).
pub const TABLE_F_OWNER: u32 = 2;
/// The table outlives its owner (6.9).
pub const TABLE_F_PERSIST: u32 = 4;

pub const CHAIN_TABLE: u16 = 1;
pub const CHAIN_NAME: u16 = 3;
pub const CHAIN_HOOK: u16 = 4;
pub const CHAIN_POLICY: u16 = 5;
pub const CHAIN_TYPE: u16 = 7;
pub const HOOK_NUMBER: u16 = 1;
pub const HOOK_PRIORITY: u16 = 2;

pub const INET_PRE_ROUTING: u32 = 0;
pub const INET_FORWARD: u32 = 2;
pub const INET_LOCAL_OUT: u32 = 3;
pub const INET_POST_ROUTING: u32 = 4;

pub const RULE_TABLE: u16 = 1;
pub const RULE_CHAIN: u16 = 2;
pub const RULE_HANDLE: u16 = 3;
pub const RULE_EXPRESSIONS: u16 = 4;
pub const RULE_USERDATA: u16 = 7;
pub const LIST_ELEM: u16 = 1;
pub const EXPR_NAME: u16 = 1;
pub const EXPR_DATA: u16 = 2;

pub const SET_TABLE: u16 = 1;
pub const SET_NAME: u16 = 2;
pub const SET_FLAGS: u16 = 3;
pub const SET_KEY_TYPE: u16 = 4;
pub const SET_KEY_LEN: u16 = 5;
pub const SET_DATA_TYPE: u16 = 6;
pub const SET_DATA_LEN: u16 = 7;
pub const SET_DESC: u16 = 9;
pub const SET_DESC_CONCAT: u16 = 2;
pub const SET_FIELD_LEN: u16 = 1;
pub const SET_ID: u16 = 10;
pub const SET_USERDATA: u16 = 13;
pub const SET_UDATA_KEY_BYTEORDER: u8 = 0;
pub const BYTEORDER_HOST: u32 = 1;
pub const SET_F_INTERVAL: u32 = 4;
pub const SET_F_MAP: u32 = 8;
/// Packets add elements.
pub const SET_F_EVAL: u32 = 0x20;
pub const SET_F_CONCAT: u32 = 0x80;

pub const ELEM_LIST_TABLE: u16 = 1;
pub const ELEM_LIST_SET: u16 = 2;
pub const ELEM_LIST_ELEMENTS: u16 = 3;
pub const ELEM_KEY: u16 = 1;
pub const ELEM_DATA: u16 = 2;
pub const ELEM_USERDATA: u16 = 6;
pub const ELEM_KEY_END: u16 = 10;
/// First entry of the user data of a rule or an element: what `nft list` shows as its comment.
pub const UDATA_COMMENT: u8 = 0;

pub const DATA_VALUE: u16 = 1;
pub const DATA_VERDICT: u16 = 2;
pub const VERDICT_CODE: u16 = 1;
pub const VERDICT_CHAIN: u16 = 2;
pub const DROP: i32 = 0;
pub const ACCEPT: i32 = 1;
pub const JUMP: i32 = -3;

/// Datatypes of the `nft` program: the kernel keeps them for its listing.
pub const TYPE_NF_PROTO: u32 = 2;
pub const TYPE_IPADDR: u32 = 7;
pub const TYPE_IP6ADDR: u32 = 8;
pub const TYPE_INET_PROTOCOL: u32 = 12;
pub const TYPE_INET_SERVICE: u32 = 13;
pub const TYPE_IFNAME: u32 = 41;
/// Bits of one member in the type of a concatenation.
pub const TYPE_BITS: u32 = 6;

/// The first of the four-byte registers; a concatenation fills as many as it needs, one behind the other.
pub const REG32_00: u32 = 8;

/// A bit of a packet's mark: our table lets it through. What others forbid can be lifted by one rule on that.
pub const MARK_ALLOWED: u32 = 0x0100_0000;
/// A bit of a packet's mark: it belongs to a published port or is an answer. For the routes of `lock`.
pub const MARK_EXPECTED: u32 = 0x0200_0000;
