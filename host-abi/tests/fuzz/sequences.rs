//! Fuzz target: whole guests. Each input generates a guest, whose functions make any calls, and events for it. In every
//! case a failure is reported, a failed VM stays dead, memory is bounded, and contexts live from create to delete.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use weir_host_abi::{Engine, EngineOptions, InstanceAllocation, Limits, Module, Plugin, PluginSettings};

use crate::fuzz_input::FuzzInput;
use crate::guest;
use crate::run::fuzz;
use crate::test_guest::{MAX_MEMORY, engine, settings};
use crate::vm_model::run_model;

#[test]
fn whole_guests() {
    fuzz("sequences", |input| {
        let (events, guest) = input.split_at(input.len() / 4);
        let (mut events, mut guest) = (FuzzInput::new(events), FuzzInput::new(guest));
        let engine = if events.rarely(64) { pooled_engine() } else { engine() };
        let text = guest::text(&mut guest);
        let module = Module::compile(engine, &wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}")));
        let limits = Limits {
            call_time: Duration::from_millis(1),
            log_bytes_per_second: 1 << 30, // All notes are needed.
            ..settings().limits
        };
        let plugin = Plugin::new(PluginSettings { limits, ..settings() }, module.unwrap());
        run_model(&Arc::new(plugin), &mut events)
    });
}

/// Returns an engine with the other memory allocation strategy.
fn pooled_engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let allocation = InstanceAllocation::Pooled { vms: 4, memory: MAX_MEMORY as usize };
    ENGINE.get_or_init(|| Engine::new(EngineOptions { allocation }).unwrap())
}
