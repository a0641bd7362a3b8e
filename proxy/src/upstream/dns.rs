//! Looks up the addresses of a name: an IP literal, `/etc/hosts`, `localhost`, then the name servers. `resolve` calls it.
//!
//! `/etc/hosts` and `/etc/resolv.conf` are read for each lookup, so a change of them needs no restart. Other sources of
//! the system (`/etc/nsswitch.conf`) are not used, because they have no TTL.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use domain::base::iana::Rcode;
use domain::base::{Name, ParsedRecord, Rtype};
use domain::rdata::{A, Aaaa};
use domain::resolv::StubResolver;
use domain::resolv::stub::Answer;
use domain::resolv::stub::conf::{ResolvConf, ServerConf, Transport};
use tokio::sync::Semaphore;

use crate::limits::{
    HOSTS_INTERVAL, LOOKUP_TIMEOUT, MAX_DNS_ATTEMPTS, MAX_LOOKUPS, MAX_NAME_SERVERS, MAX_RESOLVE_INTERVAL,
    MAX_SEARCH_DOMAINS,
};

const HOSTS_PATH: &str = "/etc/hosts";
const RESOLV_CONF_PATH: &str = "/etc/resolv.conf";

/// The DNS resolver of the process.
pub(crate) struct Resolver {
    /// Name servers in place of those of `/etc/resolv.conf`; empty for those.
    servers: Vec<SocketAddr>,
    lookups: Semaphore,
}

/// The addresses of a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    /// The addresses, at least one.
    pub(super) addresses: Vec<IpAddr>,
    /// The lowest TTL of their records.
    pub(super) ttl: Duration,
    /// The address family whose query failed; `None` if both have an answer.
    pub(super) failed: Option<AddressFamily>,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressFamily {
    /// IPv4: records of the type A.
    V4,
    /// IPv6: records of the type AAAA.
    V6,
}

impl AddressFamily {
    /// Returns the family of an address.
    pub(super) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    const fn record_type(self) -> Rtype {
        match self {
            Self::V4 => Rtype::A,
            Self::V6 => Rtype::AAAA,
        }
    }
}

impl Resolver {
    /// Returns a resolver that uses these name servers, or those of `/etc/resolv.conf` if there are none.
    pub(crate) fn new(servers: Vec<SocketAddr>) -> Arc<Self> {
        Arc::new(Self { servers, lookups: Semaphore::new(MAX_LOOKUPS) })
    }

    /// Looks up the addresses of a name, IPv4 and IPv6.
    ///
    /// # Errors
    /// The reason why there is no address, for a log.
    pub(super) async fn look_up(&self, host: &str) -> Result<Addresses, String> {
        if let Ok(address) = host.parse() {
            return Ok(Addresses { addresses: vec![address], ttl: MAX_RESOLVE_INTERVAL, failed: None });
        }
        let Ok(_permit) = self.lookups.acquire().await else { return Err("lookups have stopped".to_owned()) };
        let hosts = tokio::fs::read_to_string(HOSTS_PATH).await.unwrap_or_default();
        if let Some(addresses) = local_addresses(&hosts, host) {
            return Ok(Addresses { addresses, ttl: HOSTS_INTERVAL, failed: None });
        }
        let conf = tokio::fs::read_to_string(RESOLV_CONF_PATH).await.unwrap_or_default();
        let servers = NameServers::new(resolv_conf(&conf, &self.servers));
        let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, servers.search(host)).await;
        lookup.unwrap_or_else(|_| Err(format!("no response of a name server in {LOOKUP_TIMEOUT:?}")))
    }
}

/// Returns the addresses of a name in the text of `/etc/hosts`, or of `localhost` (RFC 6761 §6.3); `None` if it has
/// none.
fn local_addresses(hosts: &str, host: &str) -> Option<Vec<IpAddr>> {
    let host = host.trim_end_matches('.');
    let mut addresses = Vec::new();
    for line in hosts.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else { continue };
        if words.any(|name| name.eq_ignore_ascii_case(host)) {
            addresses.push(address);
        }
    }
    let is_local = || host.rsplit('.').next().is_some_and(|label| label.eq_ignore_ascii_case("localhost"));
    if addresses.is_empty() && is_local() {
        addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    (!addresses.is_empty()).then_some(addresses)
}

/// Parses the text of `/etc/resolv.conf`. Lines that are not valid are ignored, as in glibc. Without a name server, the
/// one on this host is used.
fn resolv_conf(text: &str, servers: &[SocketAddr]) -> ResolvConf {
    let mut conf = ResolvConf::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let is_valid = match (words.next(), words.next()) {
            // The parser would look up a name. A link-local address has a scope: `fe80::1%eth0`.
            (Some("nameserver"), Some(server)) => {
                server.split('%').next().is_some_and(|address| address.parse::<IpAddr>().is_ok())
            }
            (Some("domain" | "search" | "options"), Some(_)) => true,
            _ => false,
        };
        if is_valid {
            drop(conf.parse(&mut line.as_bytes()));
        }
    }
    if !servers.is_empty() {
        conf.servers = servers.iter().map(|server| ServerConf::new(*server, Transport::UdpTcp)).collect();
    }
    conf.servers.truncate(MAX_NAME_SERVERS);
    conf.options.attempts = conf.options.attempts.clamp(1, MAX_DNS_ATTEMPTS);
    conf.options.timeout = conf.options.timeout.clamp(Duration::from_secs(1), LOOKUP_TIMEOUT);
    conf.finalize();
    conf
}

/// Returns the names to query for a name, in order (`search` and `ndots` of resolv.conf(5)).
fn candidates(host: &str, conf: &ResolvConf) -> Vec<Name<Vec<u8>>> {
    let name = |text: &str| text.parse::<Name<Vec<u8>>>().ok();
    let absolute = name(host);
    if host.ends_with('.') {
        return absolute.into_iter().collect();
    }
    let domains = conf.options.search.as_slice().iter().filter(|domain| !domain.is_root()).take(MAX_SEARCH_DOMAINS);
    let searched = domains.filter_map(|domain| name(&format!("{host}.{domain}")));
    match host.bytes().filter(|byte| *byte == b'.').count() >= conf.options.ndots {
        true => absolute.into_iter().chain(searched).collect(),
        false => searched.chain(absolute).collect(),
    }
}

/// The name servers of one lookup, in the order in which they are queried.
struct NameServers {
    servers: Vec<StubResolver>,
    conf: ResolvConf,
}

/// The answer for one address family, possibly without addresses.
#[derive(Default)]
struct FamilyAnswer {
    addresses: Vec<IpAddr>,
    ttl: Option<Duration>,
}

impl NameServers {
    fn new(conf: ResolvConf) -> Self {
        // One stub resolver each: with several servers it would query the one that it knows as the fastest.
        let stub = |server: &ServerConf| {
            StubResolver::from_conf(ResolvConf { servers: vec![server.clone()], options: conf.options.clone() })
        };
        Self { servers: conf.servers.iter().map(stub).collect(), conf }
    }

    /// Returns the addresses of the first candidate that has any.
    ///
    /// A failed query ends the search: a failure that passes must not select a name that comes later.
    async fn search(&self, host: &str) -> Result<Addresses, String> {
        for name in candidates(host, &self.conf) {
            let (v4, v6) = tokio::join!(self.query(&name, AddressFamily::V4), self.query(&name, AddressFamily::V6));
            let (v4, v6, failed) = match (v4, v6) {
                (Ok(v4), Ok(v6)) => (v4, v6, None),
                (Ok(v4), Err(_)) if !v4.addresses.is_empty() => (v4, FamilyAnswer::default(), Some(AddressFamily::V6)),
                (Err(_), Ok(v6)) if !v6.addresses.is_empty() => (FamilyAnswer::default(), v6, Some(AddressFamily::V4)),
                (Err(reason), _) | (_, Err(reason)) => return Err(format!("{name}: {reason}")),
            };
            let ttl = [v4.ttl, v6.ttl].into_iter().flatten().min().unwrap_or_default();
            let addresses: Vec<IpAddr> = v4.addresses.into_iter().chain(v6.addresses).collect();
            if !addresses.is_empty() {
                return Ok(Addresses { addresses, ttl, failed });
            }
        }
        Err("the name has no address".to_owned())
    }

    /// Queries the servers in order until one has an answer, as often as `attempts` allows.
    async fn query(&self, name: &Name<Vec<u8>>, family: AddressFamily) -> Result<FamilyAnswer, String> {
        let mut last = "there is no name server".to_owned();
        for _ in 0..self.conf.options.attempts {
            for (server, ServerConf { addr, .. }) in self.servers.iter().zip(&self.conf.servers) {
                let answer = server.query((name, family.record_type())).await.map_err(|error| error.to_string());
                match answer.and_then(|answer| read_answer(&answer, family)) {
                    Ok(answer) => return Ok(answer),
                    Err(reason) => last = format!("name server {addr}: {reason}"),
                }
            }
        }
        Err(last)
    }
}

/// Returns the addresses of an answer, which may be those of an alias.
fn read_answer(answer: &Answer, family: AddressFamily) -> Result<FamilyAnswer, String> {
    match answer.header().rcode() {
        Rcode::NOERROR | Rcode::NXDOMAIN => {}
        other => return Err(other.to_string()),
    }
    let malformed = |_| "its response is malformed".to_owned();
    let records = answer.answer().map_err(malformed)?;
    let owner = answer.canonical_name().ok_or("its response has a loop of aliases")?;
    let is_ours = |record: &ParsedRecord<'_, _>| record.owner() == owner;
    let mut read = FamilyAnswer::default();
    for record in records {
        let record = record.map_err(malformed)?;
        let ttl = record.ttl().into_duration();
        read.ttl = Some(read.ttl.map_or(ttl, |lowest| lowest.min(ttl)));
        if !is_ours(&record) {
            continue;
        }
        let address: Option<IpAddr> = match family {
            AddressFamily::V4 => record.to_record::<A>().map_err(malformed)?.map(|record| record.data().addr().into()),
            AddressFamily::V6 => {
                record.to_record::<Aaaa>().map_err(malformed)?.map(|record| record.data().addr().into())
            }
        };
        read.addresses.extend(address);
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_file_and_localhost_have_addresses_without_dns() {
        let hosts = "# a comment\n127.0.0.1 localhost\n10.0.0.1\tshop  Shop.Internal # shop2\n::1 shop\nfoo bar\n";
        let check = |host: &str, expected: &[&str]| {
            let addresses = local_addresses(hosts, host).unwrap_or_default();
            let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            assert_eq!(addresses, expected, "{host}");
        };
        check("shop", &["10.0.0.1", "::1"]);
        check("SHOP.internal.", &["10.0.0.1"]);
        check("localhost", &["127.0.0.1"]);
        check("a.localhost", &["127.0.0.1", "::1"]);
        check("shop2", &[]);
        check("bar", &[]);
    }

    #[test]
    fn resolv_conf_is_read_line_by_line() {
        let text = "; comment\nnameserver 10.0.0.1\nnameserver not-an-address\nnameserver ::1 # local\nnameserver \
                    10.0.0.2\nnameserver 10.0.0.3\nnameserver 10.0.0.4\nsortlist 1.2.3.4\nsearch a.example \
                    b.example\noptions ndots:2 attempts:99 timeout:0 trust-ad\n";
        let conf = resolv_conf(text, &[]);
        let servers: Vec<String> = conf.servers.iter().map(|server| server.addr.to_string()).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[::1]:53", "10.0.0.2:53"]);
        assert_eq!((conf.options.ndots, conf.options.attempts), (2, MAX_DNS_ATTEMPTS));
        assert_eq!(conf.options.timeout, Duration::from_secs(1));
        let servers = resolv_conf(text, &["127.0.0.1:8600".parse().unwrap()]).servers;
        assert!(servers.len() == 1 && servers[0].addr.port() == 8600);
        assert_eq!(resolv_conf("", &[]).servers[0].addr.to_string(), "127.0.0.1:53");
    }

    #[tokio::test]
    async fn lookup_leaves_no_task_behind() {
        let unused = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let conf = resolv_conf("options timeout:1 attempts:1\n", &[unused]);
        let reason = NameServers::new(conf).search("shop.example").await.unwrap_err();
        assert!(reason.contains(&unused.to_string()), "{reason}");
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn search_domains_precede_names_with_few_dots() {
        let conf = resolv_conf("search a.example b.example\noptions ndots:2\n", &[]);
        let check = |host: &str, expected: &[&str]| {
            let names: Vec<String> = candidates(host, &conf).iter().map(Name::to_string).collect();
            assert_eq!(names, expected);
        };
        check("shop", &["shop.a.example", "shop.b.example", "shop"]);
        check("shop.ns.svc", &["shop.ns.svc", "shop.ns.svc.a.example", "shop.ns.svc.b.example"]);
        check("shop.", &["shop"]);
        let long = "a".repeat(64);
        check(&long, &[]);
    }
}
