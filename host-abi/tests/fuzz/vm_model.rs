//! `VmModel`: generated events for a guest, checked against a model of the VM. Streams and connections start, continue
//! and end in any order, legal or not, while timers tick, queues fill and callouts are answered.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::test_host::{HostRequest, TestHost};
use weir_host_abi::abi::buffer::BufferKind;
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::abi::stream::PeerKind;
use weir_host_abi::shared::SharedState;
use weir_host_abi::{
    CalloutResponseSizes, ContextId, EndOfStream, Exports, Failure, FailureKind, Host, Plugin, StartError, StartStep,
    Vm,
};

use crate::calls::{HostcallSignature, hostcall};
use crate::fuzz_input::FuzzInput;
use crate::guest::read_note;
use crate::run::Coverage;
use crate::test_guest::MAX_MEMORY;

/// Maximum number of events.
const MAX_EVENTS: usize = 80;

/// `InternalFailure`: the call is not allowed in this phase.
const INTERNAL_FAILURE: u32 = 10;

/// Contexts of events: some are live, some are deleted, some never exist.
const CONTEXTS: u32 = 9;

/// A VM with its expected state.
struct VmModel {
    vm: Vm,
    exports: Exports,
    host: TestHost,
    live: BTreeSet<ContextId>,
    /// Contexts whose `proxy_on_done` returned false.
    pending: BTreeSet<ContextId>,
    was_dead: bool,
    callouts: Vec<u32>,
    coverage: Coverage,
}

/// The outcome of an event.
struct StepResult {
    outcome: Result<(), Failure>,
    context: ContextId,
    is_exported: bool,
}

/// Starts a guest and runs the events of `choices`.
pub(crate) fn run_model(plugin: &Arc<Plugin>, choices: &mut FuzzInput<'_>) -> Coverage {
    let mut host = filled_host();
    let mut coverage = Coverage::new();
    let started = Vm::start(std::slice::from_ref(plugin), &mut host);
    check_log(&mut host, &mut coverage);
    let vm = match started {
        Ok(vm) => vm,
        Err(StartError::Failed { step, failure, .. }) => {
            assert_ne!(failure.kind, FailureKind::Dead, "{step}: {failure}");
            coverage.insert([201, step as u8, failure.kind as u8, 0]);
            return coverage;
        }
        Err(StartError::Rejected { step, .. }) => {
            assert!(matches!(step, StartStep::VmStart | StartStep::Configure), "{step}");
            return coverage;
        }
        Err(StartError::OutOfResources(error)) => panic!("there are resources for one VM: {error}"),
    };
    let live = BTreeSet::from([ContextId::ROOT]);
    let (pending, callouts) = (BTreeSet::new(), Vec::new());
    let exports = plugin.exports();
    let mut model = VmModel { vm, exports, host, live, pending, was_dead: false, callouts, coverage };
    let mut events = 0;
    while !choices.is_empty() && events < MAX_EVENTS {
        let event = choices.byte() % 24;
        let step = model.event(event, choices);
        model.check(event, &step);
        events += 1;
    }
    model.coverage
}

fn filled_host() -> TestHost {
    let mut host = TestHost::new(&SharedState::default(), "vm");
    for context in (1..=CONTEXTS).map(ContextId::new) {
        for map in MapKind::ALL {
            host.set_map(context, *map, &[(":path", "/"), ("x", "y")]);
        }
        for buffer in BufferKind::ALL {
            host.buffers.insert((context, *buffer), b"content of the buffer".to_vec());
        }
    }
    host.upstreams.push(b"x".to_vec());
    host.properties.insert(b"x".to_vec(), b"value".to_vec());
    host.namespace().data().set(b"x", b"shared", 0).unwrap();
    host
}

/// Reads the guest's notes and checks that every result is allowed for its hostcall.
fn check_log(host: &mut TestHost, coverage: &mut Coverage) {
    for entry in host.logs.drain(..) {
        let Some([caller, callee, result]) = read_note(&entry.message) else { continue };
        let (row, signature): (_, &HostcallSignature) = hostcall(usize::from(callee));
        let number = u32::from(result);
        assert!(
            signature.allows(row, number) || number == INTERNAL_FAILURE,
            "{} returned {result} to {caller}",
            row.name
        );
        coverage.insert([caller, callee, result, 0]);
    }
}

impl VmModel {
    fn event(&mut self, event: u8, choices: &mut FuzzInput<'_>) -> StepResult {
        let context = ContextId::new(u32::from(choices.byte()) % CONTEXTS + 1);
        match event {
            0..3 => self.create(),
            3..15 => self.stream(event, context, choices),
            _ => self.plugin(event, choices),
        }
    }

    fn create(&mut self) -> StepResult {
        let is_exported = self.exports.context_create();
        match self.vm.create_stream(&mut self.host) {
            Ok(context) => {
                assert!(self.live.insert(context), "{context} is already live");
                StepResult { outcome: Ok(()), context, is_exported }
            }
            // The context does not exist.
            Err(failure) => StepResult { outcome: Err(failure), context: ContextId::ROOT, is_exported },
        }
    }

    /// Runs an event of a stream or a connection.
    fn stream(&mut self, event: u8, context: ContextId, choices: &mut FuzzInput<'_>) -> StepResult {
        let number = u32::from(choices.byte());
        let (vm, host, end) = (&mut self.vm, &mut self.host, EndOfStream::from(number % 2 == 1));
        let (size, exports) = (number as usize, self.exports);
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
        StepResult { outcome, context, is_exported }
    }

    fn done(&mut self, context: ContextId) -> Result<(), Failure> {
        let is_done = self.vm.on_done(&mut self.host, context)?;
        if !is_done {
            self.pending.insert(context);
        }
        Ok(())
    }

    fn delete(&mut self, context: ContextId) -> Result<(), Failure> {
        let (was_live, is_exported) = (self.live.remove(&context), self.exports.delete());
        self.pending.remove(&context);
        let outcome = self.vm.on_delete(&mut self.host, context);
        assert!(was_live || self.was_dead || outcome.is_err() == is_exported, "{outcome:?}");
        outcome
    }

    /// Runs an event of the plugin context.
    fn plugin(&mut self, event: u8, choices: &mut FuzzInput<'_>) -> StepResult {
        let number = u32::from(choices.byte());
        let exports = self.exports;
        let (vm, host, size) = (&mut self.vm, &mut self.host, number as usize);
        let (outcome, is_exported) = match event {
            15 | 16 => {
                host.time += Duration::from_millis(number.into());
                (vm.on_tick(host), exports.tick())
            }
            17 | 18 => (vm.on_queue_ready(host, number), exports.queue_ready()),
            19 => (vm.on_grpc_initial_metadata(host, number, 1), exports.grpc_initial_metadata()),
            20 => (vm.on_grpc_receive(host, number, size), exports.grpc_receive()),
            21 => (vm.on_grpc_trailing_metadata(host, number, 1), exports.grpc_trailing_metadata()),
            22 => (vm.on_grpc_close(host, number, number), exports.grpc_close()),
            _ => {
                let call = if number < 200 { self.callouts.pop().unwrap_or(number) } else { number };
                host.call_status = (number, b"reason".to_vec());
                let response = CalloutResponseSizes { headers: number % 3, body: size, trailers: number % 2 };
                (vm.on_http_call_response(host, call, response), exports.http_call_response())
            }
        };
        StepResult { outcome, context: ContextId::ROOT, is_exported }
    }

    /// Checks the expectations after every event.
    fn check(&mut self, event: u8, step: &StepResult) {
        let StepResult { outcome, context, is_exported } = step;
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
                self.coverage.insert([202, event, failure.kind as u8, 0]);
            }
        }
        self.was_dead = self.vm.is_dead();
        check_log(&mut self.host, &mut self.coverage);
        if self.vm.take_plugin_done() {
            assert!(self.pending.remove(&ContextId::ROOT), "the plugin context is done only once");
        }
        assert!(self.vm.memory_bytes() <= MAX_MEMORY as usize);
        for request in self.host.take_requests() {
            if let HostRequest::HttpCall { call, .. } = request {
                assert!(call > 0 && !self.callouts.contains(&call));
                self.callouts.push(call);
            }
        }
        self.callouts.truncate(20);
    }
}
