//! The other end of the connection, from properties of the proxy. The downstream cannot set them with headers.

use std::net::IpAddr;

/// The properties of a [`Peer`] that rules match on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerFields {
    /// True if a rule matches on principals.
    pub principal: bool,
    /// True if a rule matches on IP blocks.
    pub address: bool,
}

/// The other end of the connection.
#[derive(Debug, Default)]
pub struct Peer {
    /// The SPIFFE ID of its certificate, like `spiffe://mesh.example/ns/shop/sa/web`. The proxy has verified the
    /// certificate and its trust domain.
    id: Option<String>,
    /// The address, without the port.
    address: Option<Address>,
}

/// An IPv6 address, or an IPv4-mapped one (RFC 4291 §2.5.5.2).
type Address = [u8; 16];

fn parse(text: &str) -> Option<Address> {
    Some(match text.parse::<IpAddr>().ok()? {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    })
}

impl Peer {
    /// Creates a peer from properties of the host: a SPIFFE ID, and an address with its port.
    pub fn new(id: Option<String>, address: Option<&str>) -> Self {
        let host = |text: &str| {
            text.rsplit_once(':').and_then(|(host, _)| parse(host.trim_matches(['[', ']']).split('%').next()?))
        };
        Self { id, address: address.and_then(host) }
    }

    /// Returns the path of the SPIFFE ID, like `/ns/shop/sa/web`. `None` without a certificate.
    pub fn principal(&self) -> Option<&str> {
        let rest = self.id.as_deref()?.strip_prefix("spiffe://")?;
        rest.get(rest.find('/')?..)
    }

    /// Returns whether the address is known and in an IP block.
    pub fn is_in(&self, ip_block: &IpBlock) -> bool {
        self.address.is_some_and(|address| ip_block.contains(&address))
    }
}

/// The condition of a rule on the peer's principal.
#[derive(Debug, PartialEq, Eq)]
pub enum PrincipalMatch {
    /// The workload with this path.
    Exact(String),
    /// The workloads whose path begins with this prefix, which ends with `/`.
    Prefix(String),
}

impl PrincipalMatch {
    /// Parses a path, or a prefix that ends with `/*`. Returns `None` if the text is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let is_path = text.starts_with('/') && text.len() > 2 && !text.trim_end_matches("/*").contains('*');
        let found = text
            .strip_suffix('*')
            .map_or_else(|| Self::Exact(text.to_owned()), |prefix| Self::Prefix(prefix.to_owned()));
        is_path.then_some(found)
    }

    /// Returns whether the path of a principal matches.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
        }
    }
}

/// Addresses with the same first bits (RFC 4632).
#[derive(Debug, PartialEq, Eq)]
pub struct IpBlock {
    first: Address,
    bits: usize,
}

impl IpBlock {
    /// Parses `10.0.0.0/8`, or a single address.
    ///
    /// # Errors
    /// Returns the reason if the text is neither, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let first = parse(address).ok_or("must be an IP block like 10.0.0.0/8 or fd00::/8")?;
        let most = if address.contains(':') { 128 } else { 32 };
        let bits = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|bits| *bits <= most));
        let ip_block = Self { first, bits: 128 - most + bits.ok_or("has more bits than an address, or none")? };
        let is_plain = first.iter().enumerate().all(|(index, byte)| byte & !ip_block.mask(index) == 0);
        if is_plain { Ok(ip_block) } else { Err("has bits beyond its length; write its first address") }
    }

    fn contains(&self, address: &Address) -> bool {
        (0..16).all(|index| address[index] & self.mask(index) == self.first[index])
    }

    /// Returns the bits of a byte that belong to the prefix.
    fn mask(&self, byte: usize) -> u8 {
        match self.bits.saturating_sub(byte * 8) {
            0 => 0,
            bits if bits < 8 => !(0xff >> bits),
            _ => 0xff,
        }
    }
}
