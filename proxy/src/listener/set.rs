//! The listeners of the process, as the main thread sees them. Binds new listeners before an update is published,
//! notifies the workers when it is, and retains the sockets of unchanged listeners.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;
use weir_model::{Listener, ListenerName, Rejection, ResourceId, ResourceKind, Snapshot};

use crate::listener::assignment::ListenerAssignment;
use crate::listener::bind::{BindError, BoundSockets, PortProbe};

/// Parameters of a listener set.
pub(crate) struct ListenerSetOptions {
    /// Addresses from the command line, which replace those of the configuration.
    pub(crate) overrides: HashMap<ListenerName, SocketAddr>,
    /// The assignment of each worker.
    pub(crate) assignments: Vec<watch::Sender<ListenerAssignment>>,
}

/// The listeners of the process.
pub(crate) struct ListenerSet {
    options: ListenerSetOptions,
    open: DesiredListeners,
    /// All sockets that are still referenced: open, bound for an update to come, or being closed.
    alive: Vec<Weak<BoundSockets>>,
    states: watch::Sender<Vec<ListenerStatus>>,
}

/// A listener, as `/listeners` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenerStatus {
    /// The name: `namespace/gateway/listener`.
    pub(crate) name: ListenerName,
    /// The configured address.
    pub(crate) configured: SocketAddr,
    /// The bound address.
    pub(crate) address: SocketAddr,
}

/// The listeners of one snapshot, with bound sockets.
#[derive(Clone, Default)]
pub(crate) struct DesiredListeners {
    listeners: BTreeMap<ListenerName, ListenerBinding>,
}

#[derive(Clone)]
struct ListenerBinding {
    configured: SocketAddr,
    bound: Arc<BoundSockets>,
}

impl ListenerSet {
    /// Returns a set without listeners.
    pub(crate) fn new(options: ListenerSetOptions) -> Self {
        Self { options, open: DesiredListeners::default(), alive: Vec::new(), states: watch::Sender::default() }
    }

    /// Returns a receiver of the open listeners, updated by each publish.
    pub(crate) fn statuses(&self) -> watch::Receiver<Vec<ListenerStatus>> {
        self.states.subscribe()
    }

    /// Binds the listeners that a snapshot has and the open set does not. They do not accept connections yet.
    ///
    /// # Errors
    /// A rejection for each address that cannot be bound. Then no new socket remains bound.
    pub(crate) fn bind_new(&mut self, snapshot: &Snapshot) -> Result<DesiredListeners, Vec<Rejection>> {
        self.alive.retain(|bound| bound.strong_count() > 0);
        let mut wanted = DesiredListeners::default();
        let mut rejections = Vec::new();
        for listener in snapshot.listeners.values() {
            let configured = *self.options.overrides.get(&listener.name).unwrap_or(&listener.address);
            match self.bound_for(&listener.name, configured, &wanted) {
                Ok(bound) => {
                    wanted.listeners.insert(listener.name.clone(), ListenerBinding { configured, bound });
                }
                Err(error) => rejections.push(rejection(listener, error)),
            }
        }
        if rejections.is_empty() { Ok(wanted) } else { Err(rejections) }
    }

    fn bound_for(
        &mut self,
        name: &ListenerName,
        configured: SocketAddr,
        wanted: &DesiredListeners,
    ) -> Result<Arc<BoundSockets>, BindError> {
        if let Some(open) = self.open.listeners.get(name)
            && open.configured == configured
        {
            return Ok(Arc::clone(&open.bound));
        }
        let alive: Vec<_> = self.alive.iter().filter_map(Weak::upgrade).collect();
        // Under another name, or bound for an earlier update that is not published yet.
        if let Some(same) = alive.iter().find(|bound| bound.address() == configured && !bound.is_retired()) {
            return match wanted.owner(same) {
                Some(owner) => Err(BindError::taken(configured, owner)),
                None => Ok(Arc::clone(same)),
            };
        }
        let probe =
            if alive.iter().any(|bound| bound.overlaps(configured)) { PortProbe::Skip } else { PortProbe::Check };
        let bound = Arc::new(BoundSockets::bind(configured, self.options.assignments.len(), probe)?);
        self.alive.push(Arc::downgrade(&bound));
        Ok(bound)
    }

    /// Replaces the open listeners. Workers accept on new ones and drain removed ones.
    pub(crate) fn publish(&mut self, wanted: DesiredListeners) {
        for (name, listener) in &wanted.listeners {
            let stays = self.open.owner(&listener.bound) == Some(name);
            if !stays {
                info!(listener = %name, address = %listener.bound.address(), "listening");
            }
        }
        for (name, listener) in &self.open.listeners {
            if wanted.owner(&listener.bound).is_none() {
                listener.bound.retire();
                info!(listener = %name, address = %listener.bound.address(), "no longer listening, draining");
            }
        }
        self.open = wanted;
        let open = self.open.listeners.iter();
        let listeners: BTreeMap<_, _> =
            open.map(|(name, listener)| (name.clone(), Arc::clone(&listener.bound))).collect();
        for assignment in &self.options.assignments {
            assignment.send_modify(|assignment| assignment.listeners.clone_from(&listeners));
        }
        self.states.send_replace(self.open.statuses());
    }

    /// Drains all listeners. Their connections may stay open until `timeout` from now.
    pub(crate) fn drain(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        for assignment in &self.options.assignments {
            assignment.send_modify(|assignment| {
                assignment.drain.get_or_insert(deadline);
            });
        }
    }

    /// Returns the names of command-line addresses that no listener has.
    pub(crate) fn unused_overrides(&self) -> Vec<&ListenerName> {
        self.options.overrides.keys().filter(|name| !self.open.listeners.contains_key(*name)).collect()
    }
}

impl DesiredListeners {
    /// Makes new sockets listen. Their connections queue up from then on.
    ///
    /// # Errors
    /// A rejection for each address that another process has taken since it was bound.
    pub(crate) fn listen(&self, snapshot: &Snapshot) -> Result<(), Vec<Rejection>> {
        let failed = self.listeners.iter().filter_map(|(name, listener)| {
            let error = listener.bound.listen().err()?;
            Some(rejection(snapshot.listeners.get(name)?, error))
        });
        let rejections: Vec<_> = failed.collect();
        if rejections.is_empty() { Ok(()) } else { Err(rejections) }
    }

    fn owner(&self, bound: &Arc<BoundSockets>) -> Option<&ListenerName> {
        let mut listeners = self.listeners.iter();
        listeners.find(|(_, listener)| Arc::ptr_eq(&listener.bound, bound)).map(|(name, _)| name)
    }

    fn statuses(&self) -> Vec<ListenerStatus> {
        let listeners = self.listeners.iter();
        let state = |(name, listener): (&ListenerName, &ListenerBinding)| ListenerStatus {
            name: name.clone(),
            configured: listener.configured,
            address: listener.bound.address(),
        };
        listeners.map(state).collect()
    }
}

impl BindError {
    fn taken(address: SocketAddr, owner: &ListenerName) -> Self {
        Self {
            reason: format!("{address} is the address of listener {owner} already"),
            hint: "give each listener a port of its own".to_owned(),
        }
    }
}

fn rejection(listener: &Listener, error: BindError) -> Rejection {
    Rejection {
        resource: ResourceId { kind: ResourceKind::Listener, name: listener.name.to_string() },
        field: "address".to_owned(),
        reason: error.reason,
        hint: error.hint,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{TcpListener, TcpStream};

    use weir_model::{DownstreamProtocolOptions, RouteTable, RouteTableName, SnapshotBuilder};

    use super::*;

    fn name(text: &str) -> ListenerName {
        ListenerName::new(text).unwrap()
    }

    fn snapshot(listeners: &[(&str, SocketAddr)]) -> Snapshot {
        let mut builder = SnapshotBuilder::default();
        let table = RouteTableName::new("routes").unwrap();
        builder.put_route_table(Arc::new(RouteTable { name: table.clone(), virtual_hosts: Vec::new() }));
        for (text, address) in listeners {
            let protocol = weir_model::ListenerProtocol::Http;
            let listener = Listener {
                name: name(text),
                address: *address,
                protocol,
                route_table: table.clone(),
                tls: None,
                options: DownstreamProtocolOptions::default(),
            };
            builder.put_listener(Arc::new(listener));
        }
        builder.complete().unwrap()
    }

    fn set() -> (ListenerSet, watch::Receiver<ListenerAssignment>) {
        let (sender, receiver) = watch::channel(ListenerAssignment::default());
        (ListenerSet::new(ListenerSetOptions { overrides: HashMap::new(), assignments: vec![sender] }), receiver)
    }

    fn free() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    fn publish(set: &mut ListenerSet, snapshot: &Snapshot) -> Result<Vec<ListenerStatus>, Vec<Rejection>> {
        let wanted = set.bind_new(snapshot)?;
        wanted.listen(snapshot)?;
        set.publish(wanted);
        Ok(set.statuses().borrow().clone())
    }

    #[test]
    fn publish_retains_unchanged_sockets_and_retires_removed_ones() {
        let (mut set, assignment) = set();
        let first = publish(&mut set, &snapshot(&[("a", free()), ("b", free())])).unwrap();
        let before = assignment.borrow().listeners.clone();
        let second = publish(&mut set, &snapshot(&[("a", free()), ("c", free())])).unwrap();
        assert_eq!(first[0], second[0]);
        let after = assignment.borrow().listeners.clone();
        assert!(Arc::ptr_eq(&before[&name("a")], &after[&name("a")]));
        assert!(before[&name("b")].is_retired() && !after.contains_key(&name("b")));
        assert!(!after[&name("c")].is_retired());
    }

    #[test]
    fn rejected_address_changes_nothing() {
        let (mut set, assignment) = set();
        publish(&mut set, &snapshot(&[("a", free())])).unwrap();
        let taken = TcpListener::bind(free()).unwrap();
        let address = taken.local_addr().unwrap();
        let refused = publish(&mut set, &snapshot(&[("a", free()), ("b", address), ("c", free())])).unwrap_err();
        assert_eq!((refused[0].resource.name.as_str(), refused[0].field.as_str()), ("b", "address"));
        assert_eq!(refused.len(), 1);
        assert_eq!(assignment.borrow().listeners.keys().collect::<Vec<_>>(), [&name("a")]);
        assert!(set.alive.iter().filter(|bound| bound.strong_count() > 0).count() == 1, "what was bound is closed");
        drop(taken);
        publish(&mut set, &snapshot(&[("a", free()), ("b", address)])).unwrap();
    }

    #[test]
    fn renamed_listener_takes_over_sockets() {
        let (mut set, assignment) = set();
        let address = publish(&mut set, &snapshot(&[("a", free())])).unwrap()[0].address;
        publish(&mut set, &snapshot(&[("a", address)])).unwrap();
        let before = assignment.borrow().listeners[&name("a")].clone();
        publish(&mut set, &snapshot(&[("b", address)])).unwrap();
        let after = assignment.borrow().listeners[&name("b")].clone();
        assert!(Arc::ptr_eq(&before, &after) && !after.is_retired());
    }

    #[test]
    fn address_is_bound_again_while_workers_close_it() {
        let (mut set, assignment) = set();
        let address = publish(&mut set, &snapshot(&[("a", free())])).unwrap()[0].address;
        let closing = assignment.borrow().listeners[&name("a")].clone();
        let socket = closing.take(0).unwrap();
        publish(&mut set, &snapshot(&[])).unwrap();
        assert!(closing.is_retired());
        publish(&mut set, &snapshot(&[("a", address)])).unwrap();
        let again = assignment.borrow().listeners[&name("a")].clone();
        assert!(!Arc::ptr_eq(&closing, &again) && again.address() == address);
        drop(socket);
        TcpStream::connect(address).unwrap();
    }

    #[test]
    fn concurrent_updates_share_bound_sockets() {
        let (mut set, _assignment) = set();
        let address = { TcpListener::bind(free()).unwrap().local_addr().unwrap() };
        let snapshot = snapshot(&[("a", address)]);
        let one = set.bind_new(&snapshot).unwrap();
        let other = set.bind_new(&snapshot).unwrap();
        assert!(Arc::ptr_eq(&one.listeners[&name("a")].bound, &other.listeners[&name("a")].bound));
        drop(one);
        let refused = TcpStream::connect(address).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        other.listen(&snapshot).unwrap();
        set.publish(other);
        TcpStream::connect(address).unwrap();
    }

    #[test]
    fn command_line_address_overrides_configuration() {
        let (sender, _receiver) = watch::channel(ListenerAssignment::default());
        let overrides = HashMap::from([(name("a"), free()), (name("z"), free())]);
        let mut set = ListenerSet::new(ListenerSetOptions { overrides, assignments: vec![sender] });
        let configured: SocketAddr = "192.0.2.1:80".parse().unwrap(); // Not an address of this machine.
        let states = publish(&mut set, &snapshot(&[("a", configured)])).unwrap();
        assert!(states[0].address.ip().is_loopback());
        assert_eq!(set.unused_overrides(), [&name("z")]);
    }

    #[test]
    fn second_listener_on_same_address_is_rejected() {
        let (mut set, _assignment) = set();
        let address = { TcpListener::bind(free()).unwrap().local_addr().unwrap() };
        let refused = publish(&mut set, &snapshot(&[("a", address), ("b", address)])).unwrap_err();
        assert_eq!(refused[0].reason, format!("{address} is the address of listener a already"));
    }
}
