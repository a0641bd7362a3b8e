//! Tests of the WASI calls of toolchains, made by a guest.

use std::time::Duration;

use weir_host_abi::abi::log::LogLevel;

use crate::fixture::{INPUT, RESULT, host, run_hostcall};

const AT: i64 = INPUT as i64;
const OUT: i64 = RESULT as i64;

#[test]
fn calls_return_error_numbers_and_results() {
    let rows: [(&str, &[i64], u32, [u32; 3]); 42] = [
        ("args_sizes_get", &[OUT, OUT + 4], 0, [0, 0, 0]),
        ("args_get", &[OUT, OUT + 4], 0, [0, 0, 0]),
        ("environ_sizes_get", &[OUT, OUT + 4], 0, [2, 11, 0]),
        ("environ_sizes_get", &[-1, OUT + 4], 21, [0, 0, 0]),
        ("environ_get", &[OUT, AT], 0, [1024, 1030, 0]),
        ("environ_get", &[-8, AT], 21, [0, 0, 0]),
        ("clock_time_get", &[0, 0, OUT], 0, [5, 0, 0]),
        ("clock_time_get", &[1, 0, OUT], 0, [5, 0, 0]),
        ("clock_time_get", &[2, 0, OUT], 58, [0, 0, 0]),
        ("clock_res_get", &[1, OUT], 0, [1, 0, 0]),
        ("clock_res_get", &[3, OUT], 58, [0, 0, 0]),
        ("random_get", &[AT, 0], 0, [0, 0, 0]),
        ("random_get", &[AT, 32], 0, [0, 0, 0]),
        ("random_get", &[0x1_0000, 65536], 0, [0, 0, 0]),
        ("random_get", &[AT, 66560], 28, [0, 0, 0]),
        ("random_get", &[-1, 2], 21, [0, 0, 0]),
        ("fd_close", &[3], 0, [0, 0, 0]),
        ("fd_seek", &[1, 5, 0, OUT], 0, [0, 0, 0]),
        ("fd_tell", &[1, OUT], 0, [0, 0, 0]),
        ("fd_fdstat_get", &[1, OUT - 8], 0, [64, 0, 0]),
        ("fd_fdstat_get", &[0, OUT], 8, [0, 0, 0]),
        ("fd_fdstat_get", &[1, -4], 21, [0, 0, 0]),
        ("fd_fdstat_set_flags", &[1, 4], 52, [0, 0, 0]),
        ("fd_prestat_get", &[3, OUT], 8, [0, 0, 0]),
        ("fd_prestat_dir_name", &[3, OUT, 1], 52, [0, 0, 0]),
        ("fd_read", &[0, 0, 0, OUT], 52, [0, 0, 0]),
        ("fd_sync", &[2], 0, [0, 0, 0]),
        ("fd_sync", &[3], 8, [0, 0, 0]),
        ("fd_allocate", &[1, 2, 3], 0, [0, 0, 0]),
        ("fd_filestat_get", &[1, OUT], 8, [0, 0, 0]),
        ("fd_readdir", &[1, 0, 0, 0, OUT], 20, [0, 0, 0]),
        ("fd_write", &[0, 0, 0, OUT], 8, [0, 0, 0]),
        ("fd_write", &[3, 0, 0, OUT], 8, [0, 0, 0]),
        ("fd_write", &[1, -8, 1, OUT], 21, [0, 0, 0]),
        ("fd_write", &[1, 0, 65, OUT], 28, [0, 0, 0]),
        ("poll_oneoff", &[AT, AT, 1, OUT], 0, [0, 0, 0]),
        ("sched_yield", &[], 0, [0, 0, 0]),
        ("path_open", &[3, 0, 0, 0, 0, 0, 0, 0, OUT], 44, [0, 0, 0]),
        ("path_rename", &[3, 0, 0, 3, 0, 0], 58, [0, 0, 0]),
        ("path_readlink", &[3, 0, 0, 0, 0, OUT], 58, [0, 0, 0]),
        ("sock_accept", &[3, 0, OUT], 58, [0, 0, 0]),
        ("sock_send", &[3, 0, 0, 0, -1], 21, [0, 0, 0]),
    ];
    for (name, arguments, errno, numbers) in rows {
        let mut host = host();
        host.time = Duration::from_nanos(5);
        let answer = run_hostcall(&mut host, name, arguments, b"");
        assert_eq!((answer.status, answer.numbers), (errno, numbers), "{name} {arguments:?}");
    }
}

#[test]
fn output_is_logged() {
    // Two buffers in the input: "one " and "two\n".
    let mut input = Vec::new();
    for number in [INPUT + 16, 4, INPUT + 20, 4] {
        input.extend_from_slice(&number.to_le_bytes());
    }
    input.extend_from_slice(b"one two\n");
    let rows: [(&str, &[i64], LogLevel, &str, u32); 4] = [
        ("fd_write", &[1, AT, 2, OUT], LogLevel::Info, "one two", 8),
        ("fd_write", &[2, AT, 1, OUT], LogLevel::Error, "one ", 4),
        ("fd_write", &[2, AT + 8, 1, OUT], LogLevel::Error, "two", 4),
        ("fd_pwrite", &[1, AT, 2, 77, OUT], LogLevel::Info, "one two", 8),
    ];
    for (name, arguments, level, message, written) in rows {
        let mut host = host();
        let answer = run_hostcall(&mut host, name, arguments, &input);
        assert_eq!((answer.status, answer.numbers[0]), (0, written), "{name} {arguments:?}");
        assert_eq!((host.logs[0].level, host.logs[0].message.as_str()), (level, message));
    }
}

#[test]
fn log_text_of_repeated_buffers_is_limited() {
    // Each of 64 buffers refers to the same 60,000 bytes.
    let input: Vec<u8> = (0..64).flat_map(|_| [65536_u32, 60_000]).flat_map(u32::to_le_bytes).collect();
    let mut host = host();
    let answer = run_hostcall(&mut host, "fd_write", &[1, AT, 64, OUT], &input);
    assert_eq!((answer.status, answer.numbers[0]), (0, 64 * 60_000));
    assert!(host.logs[0].message.len() <= 65536);
}
