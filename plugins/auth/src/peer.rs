//! Who is at the other end of the connection: what the proxy knows of it, whatever the request says.

use std::net::IpAddr;

/// The other end of the connection.
#[derive(Debug, Default)]
pub struct Peer {
    /// The SPIFFE ID that it has proved: `spiffe://mesh.example/ns/shop/sa/web`. Its trust domain is ours, or it would not
    /// be here.
    id: Option<String>,
    /// Its address.
    address: Option<Address>,
}

/// An address as IPv6 has it; those of IPv4 are mapped (RFC 4291 §2.5.5.2).
type Address = [u8; 16];

fn parse(text: &str) -> Option<Address> {
    Some(match text.parse::<IpAddr>().ok()? {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    })
}

impl Peer {
    /// From what the host says: a SPIFFE ID, and an address with its port.
    pub fn new(id: Option<String>, address: Option<&str>) -> Self {
        let host = |text: &str| {
            text.rsplit_once(':').and_then(|(host, _)| parse(host.trim_matches(['[', ']']).split('%').next()?))
        };
        Self { id, address: address.and_then(host) }
    }

    /// The path of its SPIFFE ID, when it has proved one: `/ns/shop/sa/web`.
    pub fn workload(&self) -> Option<&str> {
        let rest = self.id.as_deref()?.strip_prefix("spiffe://")?;
        rest.get(rest.find('/')?..)
    }

    /// Whether its address is known and in a network.
    pub fn is_in(&self, network: &Network) -> bool {
        self.address.is_some_and(|address| network.contains(&address))
    }
}

/// A workload, or all of a namespace.
#[derive(Debug, PartialEq, Eq)]
pub enum WorkloadMatch {
    /// Its path is this.
    Exact(String),
    /// Its path begins with this, which ends with `/`.
    Below(String),
}

impl WorkloadMatch {
    /// As written: a path, or one that ends with `/*`.
    pub fn read(text: &str) -> Option<Self> {
        let is_path = text.starts_with('/') && text.len() > 2 && !text.trim_end_matches("/*").contains('*');
        let found =
            text.strip_suffix('*').map_or_else(|| Self::Exact(text.to_owned()), |it| Self::Below(it.to_owned()));
        is_path.then_some(found)
    }

    /// Whether this is one of them.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Below(start) => path.starts_with(start.as_str()),
        }
    }
}

/// Addresses with the same first bits (RFC 4632).
#[derive(Debug, PartialEq, Eq)]
pub struct Network {
    first: Address,
    bits: usize,
}

impl Network {
    /// As written, `10.0.0.0/8`, or one address; the reason when it is none.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let first = parse(address).ok_or("is no network like 10.0.0.0/8 or fd00::/8")?;
        let most = if address.contains(':') { 128 } else { 32 };
        let bits = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|bits| *bits <= most));
        let network = Self { first, bits: 128 - most + bits.ok_or("has more bits than an address, or none")? };
        let is_plain = first.iter().enumerate().all(|(index, byte)| byte & !network.mask(index) == 0);
        if is_plain { Ok(network) } else { Err("has bits beyond its length; write its first address") }
    }

    fn contains(&self, address: &Address) -> bool {
        (0..16).all(|index| address[index] & self.mask(index) == self.first[index])
    }

    /// The bits of this byte that count.
    fn mask(&self, byte: usize) -> u8 {
        match self.bits.saturating_sub(byte * 8) {
            0 => 0,
            bits if bits < 8 => !(0xff >> bits),
            _ => 0xff,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Peer::new(None, Some(text)).address.unwrap()
    }

    #[test]
    fn networks_hold_the_addresses_with_their_first_bits() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1:80", "11.0.0.1:80"),
            ("10.0.0.0/8", "[::ffff:10.1.1.1]:80", "[fd00::1]:80"),
            ("127.0.0.1", "127.0.0.1:1", "127.0.0.2:1"),
            ("fd00::/8", "[fdff::1]:80", "[fe00::1]:80"),
            ("192.168.1.128/25", "192.168.1.200:1", "192.168.1.100:1"),
            ("::1/128", "[::1]:1", "[::2]:1"),
            ("fe80::/10", "[fe80::1%2]:1", "[fd80::1]:1"),
        ] {
            let network = Network::read(network).unwrap();
            assert!(network.contains(&address(inside)) && !network.contains(&address(outside)), "{network:?}");
        }
        let (all, all6) = (Network::read("0.0.0.0/0").unwrap(), Network::read("::/0").unwrap());
        assert!(all.contains(&address("1.2.3.4:5")) && !all.contains(&address("[::2]:1")));
        assert!(all6.contains(&address("[::2]:1")) && all6.contains(&address("1.2.3.4:5")));
        for wrong in ["", "10.0.0.0/33", "10.0.0.1/8", "fd00::1/8", "10.0.0/8", "host/8", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(Network::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn workloads_are_named_by_their_paths() {
        let of = |id: &str| Peer::new(Some(id.to_owned()), None).workload().map(str::to_owned);
        assert_eq!(of("spiffe://mesh.example/ns/shop/sa/web").as_deref(), Some("/ns/shop/sa/web"));
        assert_eq!((of("https://x/ns/shop"), of("spiffe://mesh.example")), (None, None));
        let shop = WorkloadMatch::read("/ns/shop/*").unwrap();
        assert!(shop.matches("/ns/shop/sa/web") && !shop.matches("/ns/shopping/sa/web") && !shop.matches("/ns/shop"));
        let web = WorkloadMatch::read("/ns/shop/sa/web").unwrap();
        assert!(web.matches("/ns/shop/sa/web") && !web.matches("/ns/shop/sa/web2"));
        for wrong in ["", "/", "/*", "ns/shop", "/ns/*/sa", "*", "/ns/shop*"] {
            assert_eq!(WorkloadMatch::read(wrong), None, "{wrong}");
        }
    }
}
