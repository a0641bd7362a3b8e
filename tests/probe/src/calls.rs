//! Every hostcall of the ABI, with the shape of its arguments. Inputs are `i` for an `i32`, `l` for an `i64`, `b` for
//! bytes (pointer and size) and `V` for a WASI vector of bytes. Outputs are addresses to which the host writes: `o` an
//! `i32`, `O` an
//! `i64`, `r` pointer and size of bytes that it allocates in the guest, and `W` up to three `i64`.

use crate::guest::take;
use crate::script::Argument;

/// Result of a hostcall.
pub(crate) struct HostcallResult {
    pub(crate) status: i64,
    /// Numbers and bytes that the host wrote, as text.
    pub(crate) written: String,
    /// First number that the host wrote.
    pub(crate) first: Option<i64>,
}

/// Content of an output that the host has not written.
const UNWRITTEN: u64 = 0xeeee_eeee_eeee_eeee;

macro_rules! hostcalls {
    ($($module:literal { $($name:ident ( $($argument:ident : $type:ty),* ) $(-> $result:ty)? = $shape:literal;)+ })+) => {
        $(
            #[link(wasm_import_module = $module)]
            unsafe extern "C" {
                $(fn $name($($argument: $type),*) $(-> $result)?;)+
            }
        )+

        /// Returns the shape of a hostcall's arguments. `None` for an unknown name.
        fn shape(name: &str) -> Option<&'static str> {
            match name {
                $($(stringify!($name) => Some($shape),)+)+
                _ => None,
            }
        }

        /// Makes a hostcall with these numbers. Returns -1 for an unknown name or a wrong count.
        fn call(name: &str, numbers: &[i64]) -> i64 {
            match name {
                $($(stringify!($name) => {
                    let &[$($argument),*] = numbers else { return -1 };
                    // SAFETY: the host checks every pointer and rejects invalid ones.
                    hostcalls!(@status unsafe { $name($($argument as $type),*) } $(, $result)?)
                })+)+
                _ => -1,
            }
        }
    };
    (@status $call:expr, $result:ty) => { $call as i64 };
    (@status $call:expr) => {{ $call; 0 }};
}

hostcalls! {
    "env" {
        proxy_log(a: i32, b: i32, c: i32) -> i32 = "ib";
        proxy_get_log_level(a: i32) -> i32 = "o";
        proxy_get_current_time_nanoseconds(a: i32) -> i32 = "O";
        proxy_set_tick_period_milliseconds(a: i32) -> i32 = "i";
        proxy_get_status(a: i32, b: i32, c: i32) -> i32 = "or";
        proxy_set_effective_context(a: i32) -> i32 = "i";
        proxy_done() -> i32 = "";
        proxy_call_foreign_function(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32) -> i32 = "bbr";
        proxy_get_property(a: i32, b: i32, c: i32, d: i32) -> i32 = "br";
        proxy_set_property(a: i32, b: i32, c: i32, d: i32) -> i32 = "bb";
        proxy_get_header_map_size(a: i32, b: i32) -> i32 = "io";
        proxy_get_header_map_pairs(a: i32, b: i32, c: i32) -> i32 = "ir";
        proxy_set_header_map_pairs(a: i32, b: i32, c: i32) -> i32 = "ib";
        proxy_get_header_map_value(a: i32, b: i32, c: i32, d: i32, e: i32) -> i32 = "ibr";
        proxy_add_header_map_value(a: i32, b: i32, c: i32, d: i32, e: i32) -> i32 = "ibb";
        proxy_replace_header_map_value(a: i32, b: i32, c: i32, d: i32, e: i32) -> i32 = "ibb";
        proxy_remove_header_map_value(a: i32, b: i32, c: i32) -> i32 = "ib";
        proxy_get_buffer_bytes(a: i32, b: i32, c: i32, d: i32, e: i32) -> i32 = "iiir";
        proxy_get_buffer_status(a: i32, b: i32, c: i32) -> i32 = "ioo";
        proxy_set_buffer_bytes(a: i32, b: i32, c: i32, d: i32, e: i32) -> i32 = "iiib";
        proxy_continue_stream(a: i32) -> i32 = "i";
        proxy_close_stream(a: i32) -> i32 = "i";
        proxy_send_local_response(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32, g: i32, h: i32) -> i32 = "ibbbi";
        proxy_http_call(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32, g: i32, h: i32, i: i32, j: i32) -> i32 = "bbbbio";
        proxy_grpc_call(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32, g: i32, h: i32, i: i32, j: i32, k: i32, l: i32)
            -> i32 = "bbbbbio";
        proxy_grpc_stream(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32, g: i32, h: i32, i: i32) -> i32 = "bbbbo";
        proxy_grpc_send(a: i32, b: i32, c: i32, d: i32) -> i32 = "ibi";
        proxy_grpc_close(a: i32) -> i32 = "i";
        proxy_grpc_cancel(a: i32) -> i32 = "i";
        proxy_get_shared_data(a: i32, b: i32, c: i32, d: i32, e: i32) -> i32 = "bro";
        proxy_set_shared_data(a: i32, b: i32, c: i32, d: i32, e: i32) -> i32 = "bbi";
        proxy_register_shared_queue(a: i32, b: i32, c: i32) -> i32 = "bo";
        proxy_resolve_shared_queue(a: i32, b: i32, c: i32, d: i32, e: i32) -> i32 = "bbo";
        proxy_enqueue_shared_queue(a: i32, b: i32, c: i32) -> i32 = "ib";
        proxy_dequeue_shared_queue(a: i32, b: i32, c: i32) -> i32 = "ir";
        proxy_define_metric(a: i32, b: i32, c: i32, d: i32) -> i32 = "ibo";
        proxy_increment_metric(a: i32, b: i64) -> i32 = "il";
        proxy_record_metric(a: i32, b: i64) -> i32 = "il";
        proxy_get_metric(a: i32, b: i32) -> i32 = "iO";
    }
    "wasi_snapshot_preview1" {
        args_get(a: i32, b: i32) -> i32 = "oo";
        args_sizes_get(a: i32, b: i32) -> i32 = "oo";
        clock_res_get(a: i32, b: i32) -> i32 = "iO";
        clock_time_get(a: i32, b: i64, c: i32) -> i32 = "ilO";
        environ_get(a: i32, b: i32) -> i32 = "OO";
        environ_sizes_get(a: i32, b: i32) -> i32 = "oo";
        fd_advise(a: i32, b: i64, c: i64, d: i32) -> i32 = "illi";
        fd_allocate(a: i32, b: i64, c: i64) -> i32 = "ill";
        fd_close(a: i32) -> i32 = "i";
        fd_datasync(a: i32) -> i32 = "i";
        fd_fdstat_get(a: i32, b: i32) -> i32 = "iW";
        fd_fdstat_set_flags(a: i32, b: i32) -> i32 = "ii";
        fd_fdstat_set_rights(a: i32, b: i64, c: i64) -> i32 = "ill";
        fd_filestat_get(a: i32, b: i32) -> i32 = "iW";
        fd_filestat_set_size(a: i32, b: i64) -> i32 = "il";
        fd_filestat_set_times(a: i32, b: i64, c: i64, d: i32) -> i32 = "illi";
        fd_pread(a: i32, b: i32, c: i32, d: i64, e: i32) -> i32 = "iiilo";
        fd_prestat_dir_name(a: i32, b: i32, c: i32) -> i32 = "iW";
        fd_prestat_get(a: i32, b: i32) -> i32 = "iW";
        fd_pwrite(a: i32, b: i32, c: i32, d: i64, e: i32) -> i32 = "iVlo";
        fd_read(a: i32, b: i32, c: i32, d: i32) -> i32 = "iiio";
        fd_readdir(a: i32, b: i32, c: i32, d: i64, e: i32) -> i32 = "iiilo";
        fd_renumber(a: i32, b: i32) -> i32 = "ii";
        fd_seek(a: i32, b: i64, c: i32, d: i32) -> i32 = "iliO";
        fd_sync(a: i32) -> i32 = "i";
        fd_tell(a: i32, b: i32) -> i32 = "iO";
        fd_write(a: i32, b: i32, c: i32, d: i32) -> i32 = "iVo";
        path_create_directory(a: i32, b: i32, c: i32) -> i32 = "ib";
        path_filestat_get(a: i32, b: i32, c: i32, d: i32, e: i32) -> i32 = "iibW";
        path_filestat_set_times(a: i32, b: i32, c: i32, d: i32, e: i64, f: i64, g: i32) -> i32 = "iiblli";
        path_open(a: i32, b: i32, c: i32, d: i32, e: i32, f: i64, g: i64, h: i32, i: i32) -> i32 = "iibillio";
        path_readlink(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32) -> i32 = "ibiio";
        path_remove_directory(a: i32, b: i32, c: i32) -> i32 = "ib";
        path_rename(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32) -> i32 = "ibib";
        path_unlink_file(a: i32, b: i32, c: i32) -> i32 = "ib";
        poll_oneoff(a: i32, b: i32, c: i32, d: i32) -> i32 = "iiio";
        random_get(a: i32, b: i32) -> i32 = "W";
        sched_yield() -> i32 = "";
        sock_accept(a: i32, b: i32, c: i32) -> i32 = "iio";
        sock_recv(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32) -> i32 = "iiiioo";
        sock_send(a: i32, b: i32, c: i32, d: i32, e: i32) -> i32 = "iiiio";
        sock_shutdown(a: i32, b: i32) -> i32 = "ii";
    }
}

/// Memory to which the host writes the outputs of a hostcall.
#[derive(Default)]
struct OutPointers {
    /// Shape of each output (`o`, `O`, `r`, `W`), and its index in `words`.
    kinds: Vec<(char, usize)>,
    words: Vec<u64>,
}

/// Words of each output. WASI's largest struct has 8 words.
const SLOT_WORDS: usize = 8;

/// Makes a hostcall with arguments of the script. Returns `None` if the name is unknown.
pub(crate) fn make(
    name: &str,
    arguments: &[Argument],
    named_numbers: &[(&'static str, i64)],
) -> Option<HostcallResult> {
    let shape = shape(name)?;
    let mut out_pointers = OutPointers { kinds: Vec::new(), words: vec![UNWRITTEN; shape.len() * SLOT_WORDS] };
    let mut vectors = Vec::new();
    let mut remaining = arguments.iter();
    let mut numbers = Vec::new();
    for kind in shape.chars() {
        match kind {
            'i' | 'l' => numbers.push(remaining.next().map_or(0, |argument| argument.number(named_numbers))),
            'b' => numbers.extend(remaining.next().map_or([0, 0], bytes)),
            'V' => {
                let [pointer, size] = remaining.next().map_or([0, 0], bytes);
                vectors = vec![pointer as u32, size as u32];
                numbers.extend([vectors.as_ptr() as i64, 1]);
            }
            _ => match remaining.as_slice().first() {
                Some(Argument::Bare(first, second)) => {
                    remaining.next();
                    numbers.push(*first);
                    numbers.extend((kind == 'r').then_some(*second));
                }
                _ => numbers.extend(out_pointers.make(kind)),
            },
        }
    }
    if name == "random_get" || name == "fd_prestat_dir_name" {
        numbers.push(8);
    }
    let status = call(name, &numbers);
    drop(vectors);
    let first = out_pointers.kinds.iter().find(|(kind, _)| *kind == 'o').map(|(_, at)| out_pointers.words[*at] as u32);
    let first = first.map(i64::from).filter(|first| *first != 0xeeee_eeee);
    Some(HostcallResult { status, written: out_pointers.show(name), first })
}

fn bytes(argument: &Argument) -> [i64; 2] {
    match argument {
        Argument::Bytes(bytes) => [bytes.as_ptr() as i64, bytes.len() as i64],
        Argument::Bare(first, second) => [*first, *second],
        Argument::Number(_) | Argument::Named(_) => [0, 0],
    }
}

impl OutPointers {
    /// Adds an output and returns its addresses.
    fn make(&mut self, kind: char) -> Vec<i64> {
        let at = self.kinds.last().map_or(0, |(_, at)| at + SLOT_WORDS);
        self.kinds.push((kind, at));
        let address = |word: usize| std::ptr::from_ref(&self.words[word]) as i64;
        if kind == 'r' { vec![address(at), address(at + 1)] } else { vec![address(at)] }
    }

    fn show(&self, name: &str) -> String {
        // SAFETY: the pointer is valid. The read is volatile, since the host has written to the memory.
        let word = |at: usize| unsafe { std::ptr::read_volatile(&self.words[at]) };
        let shown = self.kinds.iter().map(|(kind, at)| match kind {
            'o' if word(*at) as u32 == UNWRITTEN as u32 => "unwritten".to_owned(),
            'o' => (word(*at) as u32).to_string(),
            'O' if word(*at) == UNWRITTEN => "unwritten".to_owned(),
            'O' if name.contains("time") => "TIME".to_owned(),
            'O' => word(*at).to_string(),
            'W' if word(*at) == UNWRITTEN => "unwritten".to_owned(),
            'W' if name == "random_get" => "RANDOM".to_owned(),
            'W' => format!("{:x} {:x} {:x}", word(*at), word(*at + 1), word(*at + 2)),
            _ if word(*at) as u32 == UNWRITTEN as u32 => "unwritten".to_owned(),
            _ => escaped(&take(word(*at) as u32, word(*at + 1) as u32)),
        });
        shown.collect::<Vec<_>>().join(" ")
    }
}

/// Returns bytes in quotes, with every byte escaped that is not printable ASCII.
fn escaped(bytes: &[u8]) -> String {
    let letters: String = bytes.iter().map(|byte| std::ascii::escape_default(*byte).to_string()).collect();
    format!("\"{letters}\"")
}

/// Writes to the log, independently of the script.
pub(crate) fn log(level: i32, text: &str) {
    // SAFETY: the text is valid during the call.
    unsafe { proxy_log(level, text.as_ptr() as i32, text.len() as i32) };
}

/// Returns the bytes of a buffer. `None` if the host returns an error.
pub(crate) fn buffer(kind: i64, size: u32) -> Option<Vec<u8>> {
    let mut words = [0_u32; 2];
    let out_pointers = [&raw mut words[0] as i32, &raw mut words[1] as i32];
    // SAFETY: the addresses are valid during the call.
    let status = unsafe { proxy_get_buffer_bytes(kind as i32, 0, size as i32, out_pointers[0], out_pointers[1]) };
    (status == 0).then(|| take(words[0], words[1]))
}

/// Returns the path of the current context's request, without its query.
pub(crate) fn request_path() -> Option<String> {
    let name = b":path";
    let mut words = [0_u32; 2];
    let out_pointers = [&raw mut words[0] as i32, &raw mut words[1] as i32];
    // SAFETY: the name and the addresses are valid during the call.
    let status = unsafe {
        proxy_get_header_map_value(0, name.as_ptr() as i32, name.len() as i32, out_pointers[0], out_pointers[1])
    };
    let path = (status == 0).then(|| take(words[0], words[1]))?;
    Some(String::from_utf8_lossy(&path).split('?').next().unwrap_or_default().to_owned())
        .filter(|path| !path.is_empty())
}
