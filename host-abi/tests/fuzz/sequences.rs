//! Target: whole guests. Each input is a guest, whose functions make any calls, and a life for it. Whatever both are,
//! a failure is named, a VM that failed stays dead, memory has its end, and contexts live from create to delete.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use weir_host_abi::{Engine, EngineOptions, Isolation, Limits, Module, Plugin, PluginSettings};

use crate::choices::Choices;
use crate::guest;
use crate::life::live;
use crate::puppet::{MAX_MEMORY, engine, settings};
use crate::run::fuzz;

#[test]
fn whole_guests() {
    fuzz("sequences", |input| {
        let (life, guest) = input.split_at(input.len() / 4);
        let (mut life, mut guest) = (Choices::new(life), Choices::new(guest));
        let engine = if life.rarely(64) { pooled_engine() } else { engine() };
        let text = guest::text(&mut guest);
        let module = Module::compile(engine, &wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}")));
        let limits = Limits {
            call_time: Duration::from_millis(1),
            log_bytes_per_second: 1 << 30, // Every note is wanted.
            ..settings().limits
        };
        let plugin = Plugin::new(PluginSettings { limits, ..settings() }, module.unwrap());
        live(&Arc::new(plugin), &mut life)
    });
}

/// The other way in which VMs get their memory.
fn pooled_engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let isolation = Isolation::Stream { vms: 4, memory: MAX_MEMORY as usize };
    ENGINE.get_or_init(|| Engine::new(EngineOptions { isolation }).unwrap())
}
