//! Fuzz target: whole guests. Each input generates a guest, whose functions make any calls, and events for it. In every
//! case a failure is reported, a failed VM stays dead, memory is bounded, and contexts live from create to delete.

use std::sync::Arc;
use std::time::Duration;

use weir_host_abi::{Limits, Module, Plugin, PluginSettings};

use crate::fuzz_input::FuzzInput;
use crate::guest;
use crate::run::fuzz;
use crate::test_guest::{engine, settings};
use crate::vm_model::run_model;

#[test]
fn whole_guests() {
    fuzz("sequences", |input| {
        let (events, guest) = input.split_at(input.len() / 4);
        let (mut events, mut guest) = (FuzzInput::new(events), FuzzInput::new(guest));
        let text = guest::text(&mut guest);
        let module =
            Module::compile(engine(), &wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}")));
        let limits = Limits {
            call_time: Duration::from_millis(1),
            log_bytes_per_second: 1 << 30, // All notes are needed.
            ..settings().limits
        };
        let plugin = Plugin::new(PluginSettings { limits, ..settings() }, module.unwrap());
        run_model(&Arc::new(plugin), &mut events)
    });
}
