//! Generated guests. Every callback, the allocator and the functions before the first callback make any calls with any
//! arguments, call each other, grow their memory and tables, loop and trap.
//!
//! After each hostcall a guest logs four letters: [`NOTE`], the caller, the callee, and the result. The test collects
//! them as coverage.

use std::collections::BTreeSet;
use std::fmt::Write;

use weir_host_abi::abi::calls::{CALLBACKS, HOSTCALLS, HostcallSpec, ValueType};
use weir_host_abi::abi::pairs::encode;

use crate::calls::{HostcallSignature, hostcall};
use crate::fuzz_input::FuzzInput;
use crate::test_guest::import;

/// First letter of a note. The other letters are numbers offset by [`FIRST`]. All are ASCII, so the log does not change
/// them.
const NOTE: u8 = 1;
const FIRST: u8 = 2;

/// Functions of a guest beside its callbacks: export name and type.
const EARLY: [(&str, &str); 5] = [
    ("start", ""),
    ("_initialize", ""),
    ("_start", ""),
    ("main", "(param i32 i32) (result i32)"),
    ("proxy_on_memory_allocate", "(param i32) (result i32)"),
];
const ALLOCATOR: usize = 4;

/// Maximum number of steps of one function.
const MAX_STEPS: usize = 6;

/// Addresses of results, a name and a header list in the guest. Its note is at 8.
const ANSWER_AT: u32 = 16;
const NAME_AT: u32 = 1_024;
const PAIRS_AT: u32 = 1_040;

/// A guest under construction.
struct Guest<'c, 'a> {
    choices: &'c mut FuzzInput<'a>,
    used: BTreeSet<usize>,
    text: String,
}

/// Generates the text of a guest.
pub(crate) fn text(choices: &mut FuzzInput<'_>) -> String {
    let mut guest = Guest { choices, used: BTreeSet::new(), text: String::new() };
    for at in 0..EARLY.len() + CALLBACKS.len() {
        guest.function(at);
    }
    let Guest { used, text, .. } = guest;
    let imports: String = used.iter().map(|at| import(&HOSTCALLS[*at])).collect();
    let log = if imports.contains("$proxy_log ") { String::new() } else { import(hostcall(0).0) };
    let pairs = [(":method", "GET"), (":path", "/"), (":authority", "a"), ("x", "y")];
    let pairs = encode(pairs.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    let pairs = pairs.iter().fold(String::new(), |text, byte| text + &format!("\\{byte:02x}"));
    format!(
        r#"(module {imports} {log} {FRAME}
        (data (i32.const {NAME_AT}) "x") (data (i32.const {PAIRS_AT}) "{pairs}")
        {text})"#
    )
}

const FRAME: &str = r#"
    (memory (export "memory") 2) (table $table 2 funcref)
    (global $depth (mut i32) (i32.const 0)) (global $next (mut i32) (i32.const 65536))
    (func (export "proxy_abi_version_0_2_0"))
    (func $note (param $caller i32) (param $callee i32) (param $result i32)
        (i32.store8 (i32.const 8) (i32.const 1)) (i32.store8 (i32.const 9) (local.get $caller))
        (i32.store8 (i32.const 10) (local.get $callee))
        (i32.store8 (i32.const 11) (i32.add (i32.const 2) (i32.and (local.get $result) (i32.const 63))))
        (drop (call $proxy_log (i32.const 0) (i32.const 8) (i32.const 4))))"#;

/// Returns the name and type of a function by its index.
fn function(at: usize) -> (&'static str, String) {
    if let Some((name, types)) = EARLY.get(at) {
        return (name, (*types).to_owned());
    }
    let callback = &CALLBACKS[at - EARLY.len()];
    let params = "i32 ".repeat(callback.params[0].len());
    let result = if callback.result.is_some() { " (result i32)" } else { "" };
    (callback.name, format!("(param {params}){result}"))
}

fn parameters(types: &str) -> usize {
    types.split(" (result").next().map_or(0, |params| params.matches("i32").count())
}

impl Guest<'_, '_> {
    /// Adds a function. Functions before the first callback are often omitted, because a guest that fails there does
    /// not start.
    fn function(&mut self, at: usize) {
        let (name, types) = function(at);
        let is_exported = at == ALLOCATOR || !self.choices.rarely(if at < ALLOCATOR { 200 } else { 30 });
        let steps = if at < ALLOCATOR { self.choices.below(2) } else { self.choices.below(MAX_STEPS) };
        let mut body = String::new();
        if is_exported {
            for _ in 0..steps {
                body += &self.step(at);
            }
        }
        let result = if types.contains("result") { self.result(at) } else { String::new() };
        let export = match (is_exported, at) {
            (true, 0) => "(start $start)".to_owned(),
            (true, _) => format!("(export \"{name}\" (func ${name}))"),
            (false, _) => String::new(),
        };
        writeln!(self.text, "(func ${name} {types} {body} {result}) {export}").unwrap();
    }

    /// Returns code for a function's result, mostly one that lets the guest continue.
    fn result(&mut self, at: usize) -> String {
        let style = self.choices.byte();
        if at == ALLOCATOR {
            return match style {
                0..200 => "(global.set $next (i32.add (global.get $next) (local.get 0)))
                    (i32.sub (global.get $next) (local.get 0))"
                    .to_owned(),
                200..230 => "(i32.mul (memory.grow (i32.const 1)) (i32.const 65536))".to_owned(),
                _ => self.plausible('n', 1),
            };
        }
        let is_start = matches!(function(at).0, "proxy_on_vm_start" | "proxy_on_configure");
        format!("(i32.const {})", if is_start && style < 250 { 1 } else { style % 5 })
    }

    fn step(&mut self, at: usize) -> String {
        let kind = self.choices.byte();
        match kind {
            0..200 => self.hostcall(at),
            200..210 => format!("(drop (memory.grow (i32.const {})))", self.choices.pick(&[0, 1, 2, 16, 60_000])),
            210..216 => {
                let elements = self.choices.pick(&[1, 100, 30_000]);
                format!("(drop (table.grow $table (ref.null func) (i32.const {elements})))")
            }
            216..224 => format!("(i32.store {} {})", self.plausible('n', 0), self.plausible('n', 0)),
            224..236 => self.nested(),
            236..248 => {
                let times = self.choices.pick(&[2, 10, 100]);
                let call = self.hostcall(at);
                format!(
                    "(global.set $depth (i32.const {times})) (loop $again {call}
                        (global.set $depth (i32.sub (global.get $depth) (i32.const 1)))
                        (br_if $again (i32.gt_s (global.get $depth) (i32.const 0))))"
                )
            }
            248..252 => "(unreachable)".to_owned(),
            252 => "(drop (i32.div_u (i32.const 1) (i32.const 0)))".to_owned(),
            253 => "(drop (i32.load (i32.const -2)))".to_owned(),
            254 if self.choices.rarely(20) => "(loop $forever (br $forever))".to_owned(),
            _ => String::new(),
        }
    }

    /// Returns a call of another function, nested at most three deep.
    fn nested(&mut self) -> String {
        let other = EARLY.len() + self.choices.below(CALLBACKS.len());
        let (name, types) = function(other);
        let arguments: String = (0..parameters(&types)).map(|_| self.plausible('n', 0)).collect();
        let call = format!("(call ${name} {arguments})");
        let call = if types.contains("result") { format!("(drop {call})") } else { call };
        format!(
            "(if (i32.lt_u (global.get $depth) (i32.const 3)) (then
                (global.set $depth (i32.add (global.get $depth) (i32.const 1))) {call}
                (global.set $depth (i32.const 0))))"
        )
    }

    fn hostcall(&mut self, caller: usize) -> String {
        let mut at = self.choices.below(HOSTCALLS.len());
        if matches!(HOSTCALLS[at].name, "abort" | "proc_exit") && !self.choices.rarely(30) {
            at = 0;
        }
        self.used.insert(at);
        let (row, signature) = hostcall(at);
        let arguments = self.arguments(row, signature, parameters(&function(caller).1));
        let call = format!("(call ${} {arguments})", row.name);
        match row.result {
            None => call,
            Some(ValueType::I32) => {
                format!("(call $note (i32.const {}) (i32.const {}) {call})", letter(caller), letter(at))
            }
            Some(_) => format!("(drop {call})"),
        }
    }

    fn arguments(&mut self, row: &HostcallSpec, signature: &HostcallSignature, parameters: usize) -> String {
        let mut text = String::new();
        let mut types = row.params.iter();
        for role in signature.arguments.chars() {
            let is_valid = self.choices.byte() < 200;
            match role {
                'w' => write!(text, "(i64.const {})", i64::from(self.choices.byte()) - 9).unwrap(),
                'b' if is_valid => write!(text, "(i32.const {NAME_AT}) (i32.const 1)").unwrap(),
                'm' if is_valid => write!(text, "(i32.const {PAIRS_AT}) (i32.const 73)").unwrap(),
                'b' | 'm' => text += &(self.plausible('n', parameters) + &self.plausible('n', parameters)),
                _ if is_valid => text += &self.plausible(role, parameters),
                _ => text += &self.plausible('n', parameters),
            }
            types.by_ref().take(1 + usize::from(matches!(role, 'b' | 'm'))).for_each(drop);
        }
        assert_eq!(types.next(), None);
        text
    }

    /// Returns a number that may be valid for a role.
    fn plausible(&mut self, role: char, parameters: usize) -> String {
        let style = self.choices.byte();
        let numbers = [0, 1, 2, 3, 4, 8, 73, 1_024, 65_535, 131_068, 131_069, 131_072, 196_608, -1, -4, i32::MIN];
        match role {
            'e' => format!("(i32.const {})", style % 10),
            'o' | 'h' | 'q' | 'f' => format!("(i32.const {})", ANSWER_AT + u32::from(style % 3) * 4),
            _ if style < 40 && parameters > 0 => format!("(local.get {})", usize::from(style) % parameters),
            _ if style < 80 => format!("(i32.load (i32.const {}))", ANSWER_AT + u32::from(style % 3) * 4),
            _ if style < 160 => format!("(i32.const {})", style % 8),
            _ => format!("(i32.const {})", numbers[usize::from(style) % numbers.len()]),
        }
    }
}

fn letter(number: usize) -> usize {
    usize::from(FIRST) + number
}

/// Decodes a note: caller, callee, and result.
pub(crate) fn read_note(message: &str) -> Option<[u8; 3]> {
    let [NOTE, caller, callee, result] = *message.as_bytes() else { return None };
    let callee = callee.checked_sub(FIRST).filter(|callee| usize::from(*callee) < HOSTCALLS.len())?;
    Some([caller.checked_sub(FIRST)?, callee, result.checked_sub(FIRST)?])
}
