//! What each hostcall takes, may write and may answer, written down a second time from the specification: the fuzzed
//! host is held to this table.

use std::ops::Range;

use weir_host_abi::abi::calls::{HOSTCALLS, Hostcall, Library};

/// A hostcall as a guest's author sees it.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    /// A letter for each argument, two arguments for `b` and `m`:
    /// - `b` the pointer and size of bytes, `m` those of a serialized map;
    /// - `e` a number of an enum, `n` any number, `w` any 64-bit number;
    /// - `o` where a 32-bit number is written, `h` a 16-bit one, `q` a 64-bit one, `f` 24 bytes.
    pub(crate) arguments: &'static str,
    /// What it may answer beside 0 and a bad pointer.
    answers: &'static [u32],
}

const fn shape(name: &'static str, arguments: &'static str, answers: &'static [u32]) -> Shape {
    Shape { name, arguments, answers }
}

/// Environment variables of the fuzzed guests.
pub(crate) const ENVIRONMENT: [(&str, &str); 2] = [("ONE", "1"), ("TWO", "")];

/// Bytes of `environ_get`'s pointers, and of their texts: `ONE=1` and `TWO=` with a NUL each.
const ENVIRONMENT_BYTES: [u32; 2] = [8, 11];

/// The bad pointer of WASI; `env` has `InvalidMemoryAccess`.
const BAD_ADDRESS: u32 = 21;
const INVALID_MEMORY_ACCESS: u32 = 6;

/// In the order of [`HOSTCALLS`].
const SHAPES: &[Shape] = &[
    shape("proxy_log", "eb", &[2]),
    shape("proxy_get_log_level", "o", &[]),
    shape("proxy_get_current_time_nanoseconds", "q", &[]),
    shape("proxy_set_tick_period_milliseconds", "n", &[]),
    shape("proxy_get_configuration", "oo", &[]),
    shape("proxy_get_status", "ooo", &[]),
    shape("proxy_set_effective_context", "n", &[2]),
    shape("proxy_done", "", &[1]),
    shape("proxy_call_foreign_function", "bboo", &[1, 2, 3, 10]),
    shape("proxy_get_property", "boo", &[1, 3, 10]),
    shape("proxy_set_property", "bb", &[]),
    shape("proxy_get_header_map_size", "eo", &[2]),
    shape("proxy_get_header_map_pairs", "eoo", &[2]),
    shape("proxy_set_header_map_pairs", "em", &[2]),
    shape("proxy_get_header_map_value", "eboo", &[1, 2]),
    shape("proxy_add_header_map_value", "ebb", &[2]),
    shape("proxy_replace_header_map_value", "ebb", &[2]),
    shape("proxy_remove_header_map_value", "eb", &[2]),
    shape("proxy_get_buffer_bytes", "ennoo", &[1, 2]),
    shape("proxy_get_buffer_status", "eoo", &[1, 2]),
    shape("proxy_set_buffer_bytes", "ennb", &[1, 2]),
    shape("proxy_continue_request", "", &[]),
    shape("proxy_continue_response", "", &[]),
    shape("proxy_continue_stream", "e", &[2]),
    shape("proxy_close_stream", "e", &[2]),
    shape("proxy_clear_route_cache", "", &[]),
    shape("proxy_send_local_response", "nbbmn", &[2]),
    shape("proxy_http_call", "bmbmno", &[2, 10]),
    shape("proxy_grpc_call", "bbbmbno", &[2, 4, 10]),
    shape("proxy_grpc_stream", "bbbmo", &[2, 4, 10]),
    shape("proxy_grpc_send", "nbn", &[1, 2]),
    shape("proxy_grpc_close", "n", &[1, 2]),
    shape("proxy_grpc_cancel", "n", &[1, 2]),
    shape("proxy_get_shared_data", "booo", &[1]),
    shape("proxy_set_shared_data", "bbn", &[2, 8]),
    shape("proxy_register_shared_queue", "bo", &[2]),
    shape("proxy_resolve_shared_queue", "bbo", &[1]),
    shape("proxy_enqueue_shared_queue", "nb", &[1, 2]),
    shape("proxy_dequeue_shared_queue", "noo", &[1, 7]),
    shape("proxy_define_metric", "ebo", &[2]),
    shape("proxy_increment_metric", "nw", &[1, 2]),
    shape("proxy_record_metric", "nw", &[1]),
    shape("proxy_get_metric", "nq", &[1, 2]),
    shape("emscripten_notify_memory_growth", "n", &[]),
    shape("pthread_equal", "nn", &[1]),
    shape("abort", "nnnn", &[]),
    shape("seed", "", &[]),
    shape("args_get", "nn", &[]),
    shape("args_sizes_get", "oo", &[]),
    shape("clock_res_get", "eq", &[58]),
    shape("clock_time_get", "ewq", &[58]),
    shape("environ_get", "nn", &[]),
    shape("environ_sizes_get", "oo", &[]),
    shape("fd_advise", "nwwn", &[]),
    shape("fd_allocate", "eww", &[8]),
    shape("fd_close", "n", &[]),
    shape("fd_datasync", "e", &[8]),
    shape("fd_fdstat_get", "ef", &[8]),
    shape("fd_fdstat_set_flags", "en", &[52]),
    shape("fd_fdstat_set_rights", "eww", &[8]),
    shape("fd_filestat_get", "en", &[8]),
    shape("fd_filestat_set_size", "ew", &[8]),
    shape("fd_filestat_set_times", "ewwn", &[8]),
    shape("fd_pread", "ebwo", &[52]),
    shape("fd_prestat_dir_name", "eb", &[52]),
    shape("fd_prestat_get", "en", &[8]),
    shape("fd_pwrite", "enewo", &[8, 28]),
    shape("fd_read", "eneo", &[52]),
    shape("fd_readdir", "ebwo", &[20]),
    shape("fd_renumber", "ee", &[58]),
    shape("fd_seek", "ewnq", &[]),
    shape("fd_sync", "e", &[8]),
    shape("fd_tell", "eq", &[]),
    shape("fd_write", "eneo", &[8, 28]),
    shape("path_create_directory", "eb", &[58]),
    shape("path_filestat_get", "enbn", &[58]),
    shape("path_filestat_set_times", "enbwwn", &[58]),
    shape("path_link", "enbnb", &[58]),
    shape("path_open", "enbnwwno", &[44]),
    shape("path_readlink", "ebbo", &[58]),
    shape("path_remove_directory", "eb", &[58]),
    shape("path_rename", "ebnb", &[58]),
    shape("path_symlink", "bnb", &[58]),
    shape("path_unlink_file", "eb", &[58]),
    shape("poll_oneoff", "nnno", &[]),
    shape("proc_exit", "n", &[]),
    shape("proc_raise", "n", &[58]),
    shape("random_get", "nn", &[28, 29]),
    shape("sched_yield", "", &[]),
    shape("sock_accept", "eno", &[58]),
    shape("sock_recv", "enenoh", &[58]),
    shape("sock_send", "eneno", &[58]),
    shape("sock_shutdown", "en", &[58]),
];

impl Shape {
    /// Whether the guest may see this answer from a callback.
    pub(crate) fn allows(&self, row: &Hostcall, answer: u32) -> bool {
        let bad_pointer = if row.library == Library::Wasi { BAD_ADDRESS } else { INVALID_MEMORY_ACCESS };
        answer == 0 || answer == bad_pointer || self.answers.contains(&answer)
    }

    /// Where it may write with these arguments, beside an allocation.
    pub(crate) fn writes(&self, arguments: &[u64]) -> Vec<Range<u64>> {
        let range = |start: u64, size: u32| start..start + u64::from(size);
        match (self.name, arguments) {
            ("environ_get", [pointers, texts]) => {
                let [pointer_bytes, text_bytes] = ENVIRONMENT_BYTES;
                return vec![range(*pointers, pointer_bytes), range(*texts, text_bytes)];
            }
            ("random_get", [start, size]) => return std::iter::once(*start..*start + *size).collect(),
            _ => {}
        }
        let mut ranges = Vec::new();
        let mut at = 0;
        for letter in self.arguments.chars() {
            let size = match letter {
                'o' => 4,
                'h' => 2,
                'q' => 8,
                'f' => 24,
                _ => 0,
            };
            ranges.push(range(arguments[at], size));
            at += usize::from(matches!(letter, 'b' | 'm')) + 1;
        }
        ranges
    }
}

/// A hostcall with its shape, by its place in [`HOSTCALLS`].
pub(crate) fn hostcall(at: usize) -> (&'static Hostcall, &'static Shape) {
    (&HOSTCALLS[at], &SHAPES[at])
}

/// The place of a hostcall.
pub(crate) fn place(name: &str) -> usize {
    HOSTCALLS.iter().position(|row| row.name == name).unwrap()
}

#[test]
fn every_hostcall_has_its_shape() {
    assert_eq!(HOSTCALLS.len(), SHAPES.len());
    for at in 0..HOSTCALLS.len() {
        let (row, shape) = hostcall(at);
        let arguments: usize = shape.arguments.chars().map(|letter| usize::from("bm".contains(letter)) + 1).sum();
        assert_eq!((row.name, row.params.len()), (shape.name, arguments));
    }
}
