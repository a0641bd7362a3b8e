//! Configuration of the test filter: steps by callback. Parses and runs the steps.

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{Action, BufferType, GrpcStatusCode, MapType, MetricType};
use serde::Deserialize;

/// Configuration of the filter: steps for each callback.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) tick_ms: Option<u64>,
    pub(crate) configure: Vec<Step>,
    pub(crate) tick: Vec<Step>,
    request_headers: Vec<Step>,
    request_body: Vec<Step>,
    request_trailers: Vec<Step>,
    response_headers: Vec<Step>,
    response_body: Vec<Step>,
    response_trailers: Vec<Step>,
    call_response: Vec<Step>,
    log: Vec<Step>,
    done: Vec<Step>,
}

/// A callback of Proxy-Wasm that can have steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallbackName {
    Configure,
    Tick,
    RequestHeaders,
    RequestBody,
    RequestTrailers,
    ResponseHeaders,
    ResponseBody,
    ResponseTrailers,
    CallResponse,
    Log,
    Done,
}

impl Config {
    pub(crate) fn steps_of(&self, callback: CallbackName) -> &[Step] {
        match callback {
            CallbackName::Configure => &self.configure,
            CallbackName::Tick => &self.tick,
            CallbackName::RequestHeaders => &self.request_headers,
            CallbackName::RequestBody => &self.request_body,
            CallbackName::RequestTrailers => &self.request_trailers,
            CallbackName::ResponseHeaders => &self.response_headers,
            CallbackName::ResponseBody => &self.response_body,
            CallbackName::ResponseTrailers => &self.response_trailers,
            CallbackName::CallResponse => &self.call_response,
            CallbackName::Log => &self.log,
            CallbackName::Done => &self.done,
        }
    }
}

/// One step. It runs only on requests whose path begins with `path`, if that is set.
#[derive(Debug, Deserialize)]
pub(crate) struct Step {
    path: Option<String>,
    #[serde(flatten)]
    action: ActionSpec,
}

/// A header map of Proxy-Wasm.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HeaderMap {
    Request,
    RequestTrailers,
    Response,
    ResponseTrailers,
    CallResponse,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Direction {
    Request,
    Response,
}

impl Direction {
    pub(crate) fn resume(self) {
        match self {
            Self::Request => hostcalls::resume_http_request(),
            Self::Response => hostcalls::resume_http_response(),
        }
        .ok();
    }
}

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum ActionSpec {
    /// Sets a header of `map`, by default of the callback's map.
    Set { name: String, value: String, map: Option<HeaderMap> },
    /// Adds a header.
    Add { name: String, value: String, map: Option<HeaderMap> },
    /// Removes a header.
    Remove { name: String, map: Option<HeaderMap> },
    /// Copies a header to another map, `-` if it is missing. Shows the headers that the filter reads.
    Copy { from: HeaderMap, name: String, to: HeaderMap, new_name: String },
    /// Sets a header to the callback's arguments: `size=12 ends=true`.
    CallbackArguments { name: String, map: HeaderMap },
    /// Applies request headers with a prefix: `PREFIXpath` sets `:path`, `PREFIXauthority` sets `:authority`,
    /// `PREFIXNAME` sets the header `NAME`.
    ApplyPrefixedHeaders { prefix: String },
    /// Sets a header to a property, `-` if it does not exist.
    Property { property: Vec<String>, name: String, map: HeaderMap },
    /// Sets a property.
    SetProperty { property: Vec<String>, value: String },
    /// Returns the action Pause.
    Pause,
    /// Pauses until the end of the message.
    PauseUntilEnd,
    /// Pauses until the next tick.
    PauseUntilTick,
    /// Resumes a direction of the stream.
    Resume { direction: Direction },
    /// Sends a local reply and pauses.
    Reply {
        status: u32,
        body: String,
        #[serde(default)]
        headers: Vec<(String, String)>,
    },
    /// Sends a local reply with the gRPC status ResourceExhausted, and pauses.
    GrpcReply { message: String },
    /// Closes the stream.
    Close,
    /// Makes an HTTP callout to a Service and pauses.
    Call {
        service: String,
        to: String,
        #[serde(default)]
        body: String,
        timeout_ms: u64,
    },
    /// Replaces the buffered body.
    ReplaceBody { text: String },
    /// Appends to the body in the callback of its end.
    AppendBody { text: String },
    /// Prepends to the buffered body.
    PrependBody { text: String },
    /// Replaces the buffered body by its uppercase form.
    UppercaseBody,
    /// Reads the buffered body.
    ReadBody,
    /// Increments a number in shared data and sets a header to it.
    SharedCount { key: String, name: String, map: HeaderMap },
    /// Increments a counter by 1.
    Count { metric: String },
    /// Increments a counter by the callback's body size.
    CountSize { metric: String },
    /// Records a value in a histogram.
    Record { metric: String, value: u64 },
    /// Logs a text at level Info.
    Log { text: String },
    /// Sets fields of the access log to the request as the filter has seen it so far: `seen_method`, `seen_path`,
    /// `seen_bytes` and `seen_end`.
    RecordRequest,
    /// Makes `proxy_on_configure` return false.
    RejectConfiguration,
    /// Panics.
    Panic,
    /// Loops until the host stops the callback.
    LoopForever,
    /// Allocates memory until the VM's limit.
    AllocateForever,
    /// Calls the host with invalid pointers and logs the statuses that it returns.
    InvalidPointers,
    /// Logs until the host stops the callback.
    FloodLog,
}

/// One run of a callback's steps.
pub(crate) struct CallbackRun<'a> {
    callback: CallbackName,
    path: &'a str,
    size: usize,
    end_of_stream: bool,
    /// Bytes of the request's body in this callback and the ones before, without pauses.
    pub(crate) request_bytes: usize,
    pub(crate) action: Action,
    pub(crate) is_rejected: bool,
    pub(crate) waits_for_tick: Option<Direction>,
}

impl<'a> CallbackRun<'a> {
    pub(crate) fn in_stream(callback: CallbackName, path: &'a str, size: usize, end_of_stream: bool) -> Self {
        Self {
            callback,
            path,
            size,
            end_of_stream,
            request_bytes: 0,
            action: Action::Continue,
            is_rejected: false,
            waits_for_tick: None,
        }
    }

    pub(crate) fn outside_streams(callback: CallbackName) -> Self {
        Self::in_stream(callback, "", 0, true)
    }

    pub(crate) fn steps(&mut self, steps: &[Step]) {
        for step in steps.iter().filter(|step| step.path.as_ref().is_none_or(|path| self.path.starts_with(path))) {
            self.step(&step.action);
        }
    }

    fn step(&mut self, action: &ActionSpec) {
        match action {
            ActionSpec::Set { .. }
            | ActionSpec::Add { .. }
            | ActionSpec::Remove { .. }
            | ActionSpec::Copy { .. }
            | ActionSpec::CallbackArguments { .. } => {
                self.header(action);
            }
            ActionSpec::Property { property, name, map } => {
                let value = hostcalls::get_property(property.iter().map(String::as_str).collect()).ok().flatten();
                let value = value.map_or("-".to_owned(), |bytes| readable(&bytes));
                set(*map, name, &value);
            }
            ActionSpec::ApplyPrefixedHeaders { prefix } => apply_prefixed_headers(prefix),
            ActionSpec::SetProperty { property, value } => {
                let property = property.iter().map(String::as_str).collect();
                hostcalls::set_property(property, Some(value.as_bytes())).expect("a property can be set");
            }
            ActionSpec::Pause => self.action = Action::Pause,
            ActionSpec::PauseUntilEnd if self.end_of_stream => {}
            ActionSpec::PauseUntilEnd => self.action = Action::Pause,
            ActionSpec::PauseUntilTick => {
                self.action = Action::Pause;
                self.waits_for_tick = Some(self.direction());
            }
            ActionSpec::Resume { direction } => direction.resume(),
            ActionSpec::Reply { status, body, headers } => {
                let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                hostcalls::send_http_response(*status, headers, Some(body.as_bytes())).expect("a reply is taken");
                self.action = Action::Pause;
            }
            ActionSpec::GrpcReply { message } => {
                let status = GrpcStatusCode::ResourceExhausted;
                hostcalls::send_grpc_response(status, Some(message), Vec::new()).expect("a reply is taken");
                self.action = Action::Pause;
            }
            ActionSpec::Close => hostcalls::reset_http_request().expect("a stream can be closed"),
            ActionSpec::Call { service, to, body, timeout_ms } => {
                self.call(service, to, body, Duration::from_millis(*timeout_ms))
            }
            ActionSpec::ReplaceBody { .. }
            | ActionSpec::AppendBody { .. }
            | ActionSpec::PrependBody { .. }
            | ActionSpec::UppercaseBody
            | ActionSpec::ReadBody => self.body(action),
            ActionSpec::SharedCount { key, name, map } => set(*map, name, &shared_count(key).to_string()),
            ActionSpec::Count { metric } => increment(MetricType::Counter, metric, 1),
            ActionSpec::CountSize { .. } if self.size == 0 => {} // A host rejects an increment of 0.
            ActionSpec::CountSize { metric } => increment(MetricType::Counter, metric, self.size as i64),
            ActionSpec::Record { metric, value } => {
                let id = hostcalls::define_metric(MetricType::Histogram, metric).expect("a metric can be defined");
                hostcalls::record_metric(id, *value).expect("a metric can be recorded");
            }
            ActionSpec::Log { text } => log::info!("{text}"),
            ActionSpec::RecordRequest => self.record_request(),
            ActionSpec::RejectConfiguration => {
                log::error!("these are the filter's own words: no gold, no service");
                self.is_rejected = true;
            }
            ActionSpec::Panic => panic!("the test filter panics"),
            ActionSpec::LoopForever => loop_forever(),
            ActionSpec::AllocateForever => allocate_forever(),
            ActionSpec::InvalidPointers => pass_invalid_pointers(),
            ActionSpec::FloodLog => loop {
                log::warn!("{}", "flood ".repeat(100));
            },
        }
    }

    fn header(&self, action: &ActionSpec) {
        let own = self.map();
        match action {
            ActionSpec::Set { name, value, map } => set(map.unwrap_or(own), name, value),
            ActionSpec::Add { name, value, map } => {
                hostcalls::add_map_value(map.unwrap_or(own).kind(), name, value).expect("a header can be added");
            }
            ActionSpec::Remove { name, map } => {
                hostcalls::remove_map_value(map.unwrap_or(own).kind(), name).expect("a header can be removed");
            }
            ActionSpec::Copy { from, name, to, new_name } => {
                let value = hostcalls::get_map_value(from.kind(), name).ok().flatten();
                set(*to, new_name, value.as_deref().unwrap_or("-"));
            }
            ActionSpec::CallbackArguments { name, map } => {
                set(*map, name, &format!("size={} ends={}", self.size, self.end_of_stream))
            }
            _ => {}
        }
    }

    fn body(&self, action: &ActionSpec) {
        let kind = self.buffer();
        match action {
            ActionSpec::ReplaceBody { text } => {
                hostcalls::set_buffer(kind, 0, self.size, text.as_bytes()).expect("a body can be replaced");
            }
            ActionSpec::AppendBody { text } if self.end_of_stream => {
                hostcalls::set_buffer(kind, self.size, 0, text.as_bytes()).expect("a body can be appended to");
            }
            ActionSpec::PrependBody { text } => {
                hostcalls::set_buffer(kind, 0, 0, text.as_bytes()).expect("a body can be prepended to");
            }
            ActionSpec::UppercaseBody => {
                let bytes = hostcalls::get_buffer(kind, 0, self.size).expect("a body can be read").unwrap_or_default();
                let uppercase = bytes.to_ascii_uppercase();
                hostcalls::set_buffer(kind, 0, self.size, &uppercase).expect("a body can be replaced");
            }
            ActionSpec::ReadBody => {
                let bytes = hostcalls::get_buffer(kind, 0, self.size).expect("a body can be read").unwrap_or_default();
                assert_eq!(bytes.len(), self.size, "all that the callback names can be read");
            }
            _ => {}
        }
    }

    fn call(&mut self, service: &str, path: &str, body: &str, timeout: Duration) {
        let headers = vec![(":method", "POST"), (":path", path), (":authority", "callout.test"), ("x-callout", "1")];
        match hostcalls::dispatch_http_call(service, headers, Some(body.as_bytes()), vec![], timeout) {
            Ok(_) => self.action = Action::Pause,
            Err(status) => set(self.map(), "x-call-refused", &format!("{status:?}")),
        }
    }

    fn record_request(&self) {
        let method = hostcalls::get_map_value(MapType::HttpRequestHeaders, ":method").ok().flatten();
        let fields = [
            ("seen_method", method.unwrap_or_default()),
            ("seen_path", self.path.to_owned()),
            ("seen_bytes", self.request_bytes.to_string()),
            ("seen_end", self.end_of_stream.to_string()),
        ];
        for (name, value) in fields {
            hostcalls::set_property(vec!["access_log", name], Some(value.as_bytes())).expect("a property can be set");
        }
    }

    fn direction(&self) -> Direction {
        match self.callback {
            CallbackName::ResponseHeaders | CallbackName::ResponseBody | CallbackName::ResponseTrailers => {
                Direction::Response
            }
            _ => Direction::Request,
        }
    }

    fn map(&self) -> HeaderMap {
        match self.callback {
            CallbackName::ResponseHeaders | CallbackName::ResponseBody => HeaderMap::Response,
            CallbackName::RequestTrailers => HeaderMap::RequestTrailers,
            CallbackName::ResponseTrailers => HeaderMap::ResponseTrailers,
            _ => HeaderMap::Request,
        }
    }

    fn buffer(&self) -> BufferType {
        match self.callback {
            CallbackName::ResponseBody => BufferType::HttpResponseBody,
            CallbackName::CallResponse => BufferType::HttpCallResponseBody,
            _ => BufferType::HttpRequestBody,
        }
    }
}

impl HeaderMap {
    fn kind(self) -> MapType {
        match self {
            Self::Request => MapType::HttpRequestHeaders,
            Self::RequestTrailers => MapType::HttpRequestTrailers,
            Self::Response => MapType::HttpResponseHeaders,
            Self::ResponseTrailers => MapType::HttpResponseTrailers,
            Self::CallResponse => MapType::HttpCallResponseHeaders,
        }
    }
}

fn set(map: HeaderMap, name: &str, value: &str) {
    hostcalls::set_map_value(map.kind(), name, Some(value)).expect("a header can be set");
}

/// Returns a property as text: a text unchanged, eight bytes as a number, other bytes as their length.
fn readable(bytes: &[u8]) -> String {
    match (std::str::from_utf8(bytes), <[u8; 8]>::try_from(bytes)) {
        (Ok(text), _) if !text.contains(|letter: char| letter.is_control()) => text.to_owned(),
        (_, Ok(number)) => i64::from_le_bytes(number).to_string(),
        _ => format!("{} bytes", bytes.len()),
    }
}

fn shared_count(key: &str) -> u64 {
    loop {
        let (value, version) = hostcalls::get_shared_data(key).expect("shared data can be read");
        let count = value.and_then(|bytes| String::from_utf8(bytes).ok()?.parse::<u64>().ok()).unwrap_or(0) + 1;
        if hostcalls::set_shared_data(key, Some(count.to_string().as_bytes()), version).is_ok() {
            return count;
        }
    }
}

fn increment(kind: MetricType, name: &str, by: i64) {
    let id = hostcalls::define_metric(kind, name).expect("a metric can be defined");
    hostcalls::increment_metric(id, by).expect("a metric can be incremented");
}

fn loop_forever() {
    let mut iterations = 0_u64;
    loop {
        iterations = std::hint::black_box(iterations.wrapping_add(1));
    }
}

fn allocate_forever() {
    let mut blocks = Vec::new();
    loop {
        blocks.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

fn pass_invalid_pointers() {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        fn proxy_log(level: i32, text: usize, size: usize) -> i32;
        fn proxy_get_buffer_bytes(kind: i32, start: usize, size: usize, data: usize, length: usize) -> i32;
    }
    // SAFETY: the host checks every pointer and rejects invalid ones.
    let statuses = unsafe {
        [proxy_log(2, 0xFFFF_FFF0, 64), proxy_log(2, 16, usize::MAX), proxy_get_buffer_bytes(0, 0, 9, 0xFFFF_FFFE, 4)]
    };
    log::info!("invalid pointers returned {}", statuses.map(|status| status.to_string()).join(" "));
}

fn apply_prefixed_headers(prefix: &str) {
    for (name, value) in hostcalls::get_map(MapType::HttpRequestHeaders).unwrap_or_default() {
        let Some(target) = name.strip_prefix(prefix) else { continue };
        hostcalls::set_map_value(MapType::HttpRequestHeaders, &name, None).ok();
        let target = match target {
            "path" | "authority" => format!(":{target}"),
            header => header.to_owned(),
        };
        set(HeaderMap::Request, &target, &value);
    }
}
