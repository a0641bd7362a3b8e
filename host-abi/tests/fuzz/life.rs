//! What happens to a guest, made from decisions: streams and connections begin, go on and end in any order, legal or
//! not, while timers tick, queues fill and callouts are answered. A table of what must be so is kept beside the VM.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use weir_host_abi::abi::buffer::BufferKind;
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::abi::stream::PeerKind;
use weir_host_abi::shared::SharedState;
use weir_host_abi::test_host::{Request, TestHost};
use weir_host_abi::{
    CalloutResponse, ContextId, EndOfStream, Failure, FailureKind, Host, Plugin, StartError, StartStep, Vm,
};

use crate::calls::{Shape, hostcall};
use crate::choices::Choices;
use crate::guest::read_note;
use crate::puppet::MAX_MEMORY;
use crate::run::Sights;

/// The longest life, in events.
const MAX_EVENTS: usize = 80;

/// `InternalFailure`: the call is not allowed now.
const NOT_NOW: u32 = 10;

/// Contexts that events are about: some live, some lived, some never will.
const CONTEXTS: u32 = 9;

/// A VM, and what must be so.
struct Life {
    vm: Vm,
    host: TestHost,
    live: BTreeSet<ContextId>,
    /// Said that they are not done yet.
    pending: BTreeSet<ContextId>,
    was_dead: bool,
    callouts: Vec<u32>,
    sights: Sights,
}

/// What an event led to.
struct Happened {
    outcome: Result<(), Failure>,
    context: ContextId,
    is_exported: bool,
}

/// Starts a guest and lives its life.
pub(crate) fn live(plugin: &Arc<Plugin>, choices: &mut Choices<'_>) -> Sights {
    let mut host = furnished();
    let mut sights = Sights::new();
    let started = Vm::start(plugin, &mut host);
    see(&mut host, &mut sights);
    let vm = match started {
        Ok(vm) => vm,
        Err(StartError::Failed { step, failure, .. }) => {
            assert_ne!(failure.kind, FailureKind::Dead, "{step}: {failure}");
            sights.insert([201, step as u8, failure.kind as u8, 0]);
            return sights;
        }
        Err(StartError::Refused { step, .. }) => {
            assert!(matches!(step, StartStep::VmStart | StartStep::Configure), "{step}");
            return sights;
        }
        Err(StartError::NoRoom(why)) => panic!("there is room for one VM: {why}"),
    };
    let live = BTreeSet::from([ContextId::ROOT]);
    let (pending, callouts) = (BTreeSet::new(), Vec::new());
    let mut life = Life { vm, host, live, pending, was_dead: false, callouts, sights };
    let mut events = 0;
    while !choices.is_empty() && events < MAX_EVENTS {
        let event = choices.byte() % 24;
        let happened = life.event(event, choices);
        life.check(event, &happened);
        events += 1;
    }
    life.sights
}

fn furnished() -> TestHost {
    let mut host = TestHost::new(&SharedState::default(), "vm");
    for context in (1..=CONTEXTS).map(ContextId::new) {
        for map in MapKind::ALL {
            host.set_map(context, *map, &[(":path", "/"), ("x", "y")]);
        }
        for buffer in BufferKind::ALL {
            host.buffers.insert((context, *buffer), b"what is in the buffer".to_vec());
        }
    }
    host.upstreams.push(b"x".to_vec());
    host.properties.insert(b"x".to_vec(), b"value".to_vec());
    host.namespace().data().set(b"x", b"shared", 0).unwrap();
    host
}

/// Reads what the guest noted: every answer is one that its call may give.
fn see(host: &mut TestHost, sights: &mut Sights) {
    for entry in host.logs.drain(..) {
        let Some([who, what, answer]) = read_note(&entry.message) else { continue };
        let (row, shape): (_, &Shape) = hostcall(usize::from(what));
        let number = u32::from(answer);
        assert!(shape.allows(row, number) || number == NOT_NOW, "{} answered {answer} to {who}", row.name);
        sights.insert([who, what, answer, 0]);
    }
}

impl Life {
    fn event(&mut self, event: u8, choices: &mut Choices<'_>) -> Happened {
        let context = ContextId::new(u32::from(choices.byte()) % CONTEXTS + 1);
        match event {
            0..3 => self.create(),
            3..15 => self.stream(event, context, choices),
            _ => self.plugin(event, choices),
        }
    }

    fn create(&mut self) -> Happened {
        let is_exported = self.vm.exports().context_create();
        match self.vm.create_stream(&mut self.host) {
            Ok(context) => {
                assert!(self.live.insert(context), "{context} lives already");
                Happened { outcome: Ok(()), context, is_exported }
            }
            // It would have lived.
            Err(failure) => Happened { outcome: Err(failure), context: ContextId::ROOT, is_exported },
        }
    }

    /// An event of a stream or a connection.
    fn stream(&mut self, event: u8, context: ContextId, choices: &mut Choices<'_>) -> Happened {
        let number = u32::from(choices.byte());
        let (vm, host, end) = (&mut self.vm, &mut self.host, EndOfStream::from(number % 2 == 1));
        let (size, exports) = (number as usize, vm.exports());
        let (outcome, is_exported) = match event {
            3 => (vm.on_request_headers(host, context, number, end).map(|_| ()), exports.request_headers()),
            4 => (vm.on_request_body(host, context, size, end).map(|_| ()), exports.request_body()),
            5 => (vm.on_request_trailers(host, context, number).map(|_| ()), exports.request_trailers()),
            6 => (vm.on_response_headers(host, context, number, end).map(|_| ()), exports.response_headers()),
            7 => (vm.on_response_body(host, context, size, end).map(|_| ()), exports.response_body()),
            8 => (vm.on_response_trailers(host, context, number).map(|_| ()), exports.response_trailers()),
            9 => (vm.on_log(host, context), exports.log()),
            10 => (self.done(context), exports.done()),
            11 => (self.delete(context), exports.delete()),
            12 => (vm.on_new_connection(host, context).map(|_| ()), exports.new_connection()),
            13 if size < 128 => {
                (vm.on_downstream_data(host, context, size, end).map(|_| ()), exports.downstream_data())
            }
            13 => (vm.on_upstream_data(host, context, size, end).map(|_| ()), exports.upstream_data()),
            _ if size < 128 => (vm.on_downstream_close(host, context, PeerKind::Local), exports.downstream_close()),
            _ => (vm.on_upstream_close(host, context, PeerKind::Remote), exports.upstream_close()),
        };
        Happened { outcome, context, is_exported }
    }

    fn done(&mut self, context: ContextId) -> Result<(), Failure> {
        let is_done = self.vm.on_done(&mut self.host, context)?;
        if !is_done {
            self.pending.insert(context);
        }
        Ok(())
    }

    fn delete(&mut self, context: ContextId) -> Result<(), Failure> {
        let (was_live, is_exported) = (self.live.remove(&context), self.vm.exports().delete());
        self.pending.remove(&context);
        let outcome = self.vm.on_delete(&mut self.host, context);
        assert!(was_live || self.was_dead || outcome.is_err() == is_exported, "{outcome:?}");
        outcome
    }

    /// An event of the plugin context.
    fn plugin(&mut self, event: u8, choices: &mut Choices<'_>) -> Happened {
        let number = u32::from(choices.byte());
        let exports = self.vm.exports();
        let (vm, host, size) = (&mut self.vm, &mut self.host, number as usize);
        let (outcome, is_exported) = match event {
            15 | 16 => {
                host.time += Duration::from_millis(number.into());
                (vm.on_tick(host), exports.tick())
            }
            17 => (vm.on_queue_ready(host, number), exports.queue_ready()),
            18 => (vm.on_foreign_function(host, number, size), exports.foreign_function()),
            19 => (vm.on_grpc_initial_metadata(host, number, 1), exports.grpc_initial_metadata()),
            20 => (vm.on_grpc_receive(host, number, size), exports.grpc_receive()),
            21 => (vm.on_grpc_trailing_metadata(host, number, 1), exports.grpc_trailing_metadata()),
            22 => (vm.on_grpc_close(host, number, number), exports.grpc_close()),
            _ => {
                let call = if number < 200 { self.callouts.pop().unwrap_or(number) } else { number };
                host.call_status = (number, b"why".to_vec());
                let response = CalloutResponse { headers: number % 3, body: size, trailers: number % 2 };
                (vm.on_http_call_response(host, call, response), exports.http_call_response())
            }
        };
        Happened { outcome, context: ContextId::ROOT, is_exported }
    }

    /// What must be so after every event.
    fn check(&mut self, event: u8, happened: &Happened) {
        let Happened { outcome, context, is_exported } = happened;
        let was_live = self.live.contains(context) || matches!(event, 0..3 | 11);
        match outcome {
            Ok(()) => assert!(!self.was_dead && !self.vm.is_dead() && (was_live || !is_exported), "event {event}"),
            Err(failure) if self.was_dead => assert_eq!(failure.kind, FailureKind::Dead, "{failure}"),
            Err(failure) if failure.kind == FailureKind::Dead => {
                assert!(!self.vm.is_dead(), "{failure}");
                assert!(!was_live || event == 11, "{failure}");
            }
            Err(failure) => {
                assert!(self.vm.is_dead() && *is_exported && was_live, "{failure}");
                self.sights.insert([202, event, failure.kind as u8, 0]);
            }
        }
        self.was_dead = self.vm.is_dead();
        see(&mut self.host, &mut self.sights);
        while let Some(context) = self.vm.take_done() {
            assert!(self.pending.remove(&context), "{context} was done already");
        }
        assert_eq!(self.vm.live_contexts(), self.live.len());
        for context in (0..=CONTEXTS * 2).map(ContextId::new) {
            assert_eq!(self.vm.is_live(context), self.live.contains(&context), "{context}");
        }
        assert!(self.vm.memory_bytes() <= MAX_MEMORY as usize);
        for request in self.host.take_requests() {
            if let Request::HttpCall { call, .. } = request {
                assert!(call > 0 && !self.callouts.contains(&call));
                self.callouts.push(call);
            }
        }
        self.callouts.truncate(20);
    }
}
