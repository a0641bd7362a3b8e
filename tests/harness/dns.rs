//! A DNS server whose records change during a test.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use domain::base::iana::{Class, Rcode};
use domain::base::{Message, MessageBuilder, Rtype, Ttl};
use domain::rdata::{A, Aaaa};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// The records of one name.
#[derive(Debug, Clone)]
struct Records {
    addresses: Vec<IpAddr>,
    ttl: u32,
}

#[derive(Debug, Default)]
struct DnsState {
    /// A name without records does not exist.
    names: HashMap<String, Records>,
    queries: HashMap<String, Vec<Rtype>>,
    /// The types of queries that fail.
    failing: Vec<Rtype>,
}

/// A DNS server by UDP on loopback. Dropping it stops it.
#[derive(Debug)]
pub struct DnsServer {
    address: SocketAddr,
    state: Arc<Mutex<DnsState>>,
    _tasks: JoinSet<()>,
}

impl DnsServer {
    /// Starts a server without names.
    pub async fn start() -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        let state = Arc::new(Mutex::new(DnsState::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(socket, Arc::clone(&state)));
        Self { address, state, _tasks: tasks }
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the addresses of a name. `ttl` is in seconds.
    pub fn set(&self, name: &str, addresses: &[IpAddr], ttl: u32) {
        self.state.lock().names.insert(name.to_owned(), Records { addresses: addresses.to_vec(), ttl });
    }

    /// Answers queries of these types with SERVFAIL from now on, and those of other types with their records.
    pub fn fail(&self, types: &[Rtype]) {
        self.state.lock().failing = types.to_vec();
    }

    /// Returns the number of queries of a type for a name so far.
    pub fn queries(&self, name: &str, record_type: Rtype) -> usize {
        let state = self.state.lock();
        state.queries.get(name).map_or(0, |types| types.iter().filter(|other| **other == record_type).count())
    }
}

async fn serve(socket: UdpSocket, state: Arc<Mutex<DnsState>>) {
    let mut buffer = [0; 4096];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        if let Some(response) = respond(&buffer[..length], &state) {
            drop(socket.send_to(&response, client).await); // A client may have gone.
        }
    }
}

/// Returns the response to a query; `None` if it is malformed.
fn respond(query: &[u8], state: &Mutex<DnsState>) -> Option<Vec<u8>> {
    let query = Message::from_slice(query).ok()?;
    let question = query.sole_question().ok()?;
    let (name, record_type) = (question.qname().to_string(), question.qtype());
    let mut state = state.lock();
    state.queries.entry(name.clone()).or_default().push(record_type);
    let records = state.names.get(&name);
    let rcode = match records {
        _ if state.failing.contains(&record_type) => Rcode::SERVFAIL,
        None => Rcode::NXDOMAIN,
        Some(_) => Rcode::NOERROR,
    };
    let mut answer = MessageBuilder::new_vec().start_answer(query, rcode).ok()?;
    let Some(Records { addresses, ttl }) = records.filter(|_| rcode == Rcode::NOERROR) else {
        return Some(answer.finish());
    };
    let ttl = Ttl::from_secs(*ttl);
    for address in addresses {
        match address {
            IpAddr::V4(address) if record_type == Rtype::A => {
                answer.push((question.qname(), Class::IN, ttl, A::new(*address))).ok()?;
            }
            IpAddr::V6(address) if record_type == Rtype::AAAA => {
                answer.push((question.qname(), Class::IN, ttl, Aaaa::new(*address))).ok()?;
            }
            _ => {}
        }
    }
    Some(answer.finish())
}
