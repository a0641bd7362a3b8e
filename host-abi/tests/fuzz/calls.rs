//! Arguments, writes and results of each hostcall, written a second time from the specification. The fuzz tests check
//! the host against this table.

use std::ops::Range;

use weir_host_abi::abi::calls::{HOSTCALLS, HostcallSpec, ImportModule};

/// The signature of a hostcall in terms of its arguments' roles.
pub(crate) struct HostcallSignature {
    pub(crate) name: &'static str,
    /// One letter per argument, or per two arguments for `b` and `m`:
    /// - `b` pointer and size of bytes, `m` of a serialized map;
    /// - `e` number of an enum, `n` any number, `w` any 64-bit number;
    /// - `o` pointer to a 32-bit result, `h` to 16 bits, `q` to 64 bits, `f` to 24 bytes.
    pub(crate) arguments: &'static str,
    /// Allowed results beside 0 and a bad pointer.
    results: &'static [u32],
}

const fn signature(name: &'static str, arguments: &'static str, results: &'static [u32]) -> HostcallSignature {
    HostcallSignature { name, arguments, results }
}

/// Environment variables of the fuzzed guests.
pub(crate) const ENVIRONMENT: [(&str, &str); 2] = [("ONE", "1"), ("TWO", "")];

/// Sizes of `environ_get`'s pointers, and of their strings: `ONE=1` and `TWO=` with a NUL each.
const ENVIRONMENT_BYTES: [u32; 2] = [8, 11];

/// The status of a bad pointer in WASI; `env` has `InvalidMemoryAccess`.
const BAD_ADDRESS: u32 = 21;
const INVALID_MEMORY_ACCESS: u32 = 6;

/// Signatures in the order of [`HOSTCALLS`].
const SIGNATURES: &[HostcallSignature] = &[
    signature("proxy_log", "eb", &[2]),
    signature("proxy_get_log_level", "o", &[]),
    signature("proxy_get_current_time_nanoseconds", "q", &[]),
    signature("proxy_set_tick_period_milliseconds", "n", &[]),
    signature("proxy_get_configuration", "oo", &[]),
    signature("proxy_get_status", "ooo", &[]),
    signature("proxy_set_effective_context", "n", &[2]),
    signature("proxy_done", "", &[1]),
    signature("proxy_call_foreign_function", "bboo", &[1, 2, 3, 10]),
    signature("proxy_get_property", "boo", &[1, 3, 10]),
    signature("proxy_set_property", "bb", &[]),
    signature("proxy_get_header_map_size", "eo", &[2]),
    signature("proxy_get_header_map_pairs", "eoo", &[2]),
    signature("proxy_set_header_map_pairs", "em", &[2]),
    signature("proxy_get_header_map_value", "eboo", &[1, 2]),
    signature("proxy_add_header_map_value", "ebb", &[2]),
    signature("proxy_replace_header_map_value", "ebb", &[2]),
    signature("proxy_remove_header_map_value", "eb", &[2]),
    signature("proxy_get_buffer_bytes", "ennoo", &[1, 2]),
    signature("proxy_get_buffer_status", "eoo", &[1, 2]),
    signature("proxy_set_buffer_bytes", "ennb", &[1, 2]),
    signature("proxy_continue_request", "", &[]),
    signature("proxy_continue_response", "", &[]),
    signature("proxy_continue_stream", "e", &[2]),
    signature("proxy_close_stream", "e", &[2]),
    signature("proxy_clear_route_cache", "", &[]),
    signature("proxy_send_local_response", "nbbmn", &[2]),
    signature("proxy_http_call", "bmbmno", &[2, 10]),
    signature("proxy_grpc_call", "bbbmbno", &[2, 4, 10]),
    signature("proxy_grpc_stream", "bbbmo", &[2, 4, 10]),
    signature("proxy_grpc_send", "nbn", &[1, 2]),
    signature("proxy_grpc_close", "n", &[1, 2]),
    signature("proxy_grpc_cancel", "n", &[1, 2]),
    signature("proxy_get_shared_data", "booo", &[1]),
    signature("proxy_set_shared_data", "bbn", &[2, 8]),
    signature("proxy_register_shared_queue", "bo", &[2]),
    signature("proxy_resolve_shared_queue", "bbo", &[1]),
    signature("proxy_enqueue_shared_queue", "nb", &[1, 2]),
    signature("proxy_dequeue_shared_queue", "noo", &[1, 7]),
    signature("proxy_define_metric", "ebo", &[2]),
    signature("proxy_increment_metric", "nw", &[1, 2]),
    signature("proxy_record_metric", "nw", &[1]),
    signature("proxy_get_metric", "nq", &[1, 2]),
    signature("emscripten_notify_memory_growth", "n", &[]),
    signature("pthread_equal", "nn", &[1]),
    signature("abort", "nnnn", &[]),
    signature("seed", "", &[]),
    signature("args_get", "nn", &[]),
    signature("args_sizes_get", "oo", &[]),
    signature("clock_res_get", "eq", &[58]),
    signature("clock_time_get", "ewq", &[58]),
    signature("environ_get", "nn", &[]),
    signature("environ_sizes_get", "oo", &[]),
    signature("fd_advise", "nwwn", &[]),
    signature("fd_allocate", "eww", &[8]),
    signature("fd_close", "n", &[]),
    signature("fd_datasync", "e", &[8]),
    signature("fd_fdstat_get", "ef", &[8]),
    signature("fd_fdstat_set_flags", "en", &[52]),
    signature("fd_fdstat_set_rights", "eww", &[8]),
    signature("fd_filestat_get", "en", &[8]),
    signature("fd_filestat_set_size", "ew", &[8]),
    signature("fd_filestat_set_times", "ewwn", &[8]),
    signature("fd_pread", "ebwo", &[52]),
    signature("fd_prestat_dir_name", "eb", &[52]),
    signature("fd_prestat_get", "en", &[8]),
    signature("fd_pwrite", "enewo", &[8, 28]),
    signature("fd_read", "eneo", &[52]),
    signature("fd_readdir", "ebwo", &[20]),
    signature("fd_renumber", "ee", &[58]),
    signature("fd_seek", "ewnq", &[]),
    signature("fd_sync", "e", &[8]),
    signature("fd_tell", "eq", &[]),
    signature("fd_write", "eneo", &[8, 28]),
    signature("path_create_directory", "eb", &[58]),
    signature("path_filestat_get", "enbn", &[58]),
    signature("path_filestat_set_times", "enbwwn", &[58]),
    signature("path_link", "enbnb", &[58]),
    signature("path_open", "enbnwwno", &[44]),
    signature("path_readlink", "ebbo", &[58]),
    signature("path_remove_directory", "eb", &[58]),
    signature("path_rename", "ebnb", &[58]),
    signature("path_symlink", "bnb", &[58]),
    signature("path_unlink_file", "eb", &[58]),
    signature("poll_oneoff", "nnno", &[]),
    signature("proc_exit", "n", &[]),
    signature("proc_raise", "n", &[58]),
    signature("random_get", "nn", &[28, 29]),
    signature("sched_yield", "", &[]),
    signature("sock_accept", "eno", &[58]),
    signature("sock_recv", "enenoh", &[58]),
    signature("sock_send", "eneno", &[58]),
    signature("sock_shutdown", "en", &[58]),
];

impl HostcallSignature {
    /// Returns whether the hostcall may return this result in a callback.
    pub(crate) fn allows(&self, row: &HostcallSpec, answer: u32) -> bool {
        let bad_pointer = if row.import_module == ImportModule::Wasi { BAD_ADDRESS } else { INVALID_MEMORY_ACCESS };
        answer == 0 || answer == bad_pointer || self.results.contains(&answer)
    }

    /// Returns the ranges that the hostcall may write with these arguments, without an allocation.
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

/// Returns a hostcall with its signature, by its index in [`HOSTCALLS`].
pub(crate) fn hostcall(at: usize) -> (&'static HostcallSpec, &'static HostcallSignature) {
    (&HOSTCALLS[at], &SIGNATURES[at])
}

/// Returns the index of a hostcall in [`HOSTCALLS`].
pub(crate) fn hostcall_index(name: &str) -> usize {
    HOSTCALLS.iter().position(|row| row.name == name).unwrap()
}

#[test]
fn every_hostcall_has_its_signature() {
    assert_eq!(HOSTCALLS.len(), SIGNATURES.len());
    for at in 0..HOSTCALLS.len() {
        let (row, signature) = hostcall(at);
        let arguments: usize = signature.arguments.chars().map(|letter| usize::from("bm".contains(letter)) + 1).sum();
        assert_eq!((row.name, row.params.len()), (signature.name, arguments));
    }
}
