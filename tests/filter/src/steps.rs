//! What the filter can do, as its configuration says it, and doing it.

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{Action, BufferType, MapType, MetricType};
use serde::Deserialize;

/// The whole configuration: steps for each callback.
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

/// A callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
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
    pub(crate) fn at(&self, moment: Moment) -> &[Step] {
        match moment {
            Moment::Configure => &self.configure,
            Moment::Tick => &self.tick,
            Moment::RequestHeaders => &self.request_headers,
            Moment::RequestBody => &self.request_body,
            Moment::RequestTrailers => &self.request_trailers,
            Moment::ResponseHeaders => &self.response_headers,
            Moment::ResponseBody => &self.response_body,
            Moment::ResponseTrailers => &self.response_trailers,
            Moment::CallResponse => &self.call_response,
            Moment::Log => &self.log,
            Moment::Done => &self.done,
        }
    }
}

/// Something to do, perhaps only for requests whose path begins with `path`.
#[derive(Debug, Deserialize)]
pub(crate) struct Step {
    path: Option<String>,
    #[serde(flatten)]
    what: What,
}

/// Where a header is.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Map {
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
enum What {
    /// Sets a header of this callback's map, or of another.
    Set { name: String, value: String, map: Option<Map> },
    /// Adds one.
    Add { name: String, value: String, map: Option<Map> },
    /// Removes one.
    Remove { name: String, map: Option<Map> },
    /// Copies a header to another map: to see what the filter saw.
    Copy { from: Map, name: String, to: Map, new_name: String },
    /// Sets a header to what the callback was told: `size=12 ends=true`.
    Told { name: String, map: Map },
    /// Does what the request asks for: `PREFIXpath: /x` sets `:path`, `PREFIXauthority` the host, `PREFIXNAME` a header.
    Obey { prefix: String },
    /// Sets a header to a property, `-` when there is none.
    Property { property: Vec<String>, name: String, map: Map },
    /// Sets a property.
    SetProperty { property: Vec<String>, value: String },
    /// Pauses.
    Pause,
    /// Pauses until the message has ended.
    PauseUntilEnd,
    /// Pauses until the next tick.
    PauseUntilTick,
    /// Lets go on.
    Resume { direction: Direction },
    /// Answers.
    Reply {
        status: u32,
        body: String,
        #[serde(default)]
        headers: Vec<(String, String)>,
    },
    /// Closes the stream.
    Close,
    /// Calls a Service and pauses.
    Call {
        service: String,
        to: String,
        #[serde(default)]
        body: String,
        timeout_ms: u64,
    },
    /// Replaces what can be seen of the body.
    ReplaceBody { text: String },
    /// Adds to its end, when it is there.
    AppendBody { text: String },
    /// Adds before its beginning.
    PrependBody { text: String },
    /// Reads the body and turns it into capitals.
    CapitaliseBody,
    /// Reads the body, all of what can be seen.
    ReadBody,
    /// Adds one to a number in shared data and sets a header to it.
    SharedCount { key: String, name: String, map: Map },
    /// Counts in a metric.
    Count { metric: String },
    /// Counts bytes seen in a metric.
    CountSize { metric: String },
    /// Records in a histogram.
    Record { metric: String, value: u64 },
    /// Logs.
    Say { text: String },
    /// Refuses the configuration.
    Refuse,
    /// Panics.
    Panic,
    /// Loops for ever.
    Spin,
    /// Allocates without end.
    Hoard,
    /// Calls the host with pointers to nowhere, and says in the log what the host answered.
    Garbage,
    /// Logs without end.
    Flood,
}

/// One callback.
pub(crate) struct Run<'a> {
    moment: Moment,
    path: &'a str,
    size: usize,
    ends: bool,
    pub(crate) action: Action,
    pub(crate) refused: bool,
    pub(crate) waits_for_tick: Option<Direction>,
}

impl<'a> Run<'a> {
    pub(crate) fn of(moment: Moment, path: &'a str, (size, ends): (usize, bool)) -> Self {
        Self { moment, path, size, ends, action: Action::Continue, refused: false, waits_for_tick: None }
    }

    pub(crate) fn outside_streams(moment: Moment) -> Self {
        Self::of(moment, "", (0, true))
    }

    pub(crate) fn steps(&mut self, steps: &[Step]) {
        for step in steps.iter().filter(|step| step.path.as_ref().is_none_or(|path| self.path.starts_with(path))) {
            self.step(&step.what);
        }
    }

    fn step(&mut self, what: &What) {
        match what {
            What::Set { .. } | What::Add { .. } | What::Remove { .. } | What::Copy { .. } | What::Told { .. } => {
                self.header(what);
            }
            What::Property { property, name, map } => {
                let value = hostcalls::get_property(property.iter().map(String::as_str).collect()).ok().flatten();
                let value = value.map_or("-".to_owned(), |bytes| readable(&bytes));
                set(*map, name, &value);
            }
            What::Obey { prefix } => obey(prefix),
            What::SetProperty { property, value } => {
                let property = property.iter().map(String::as_str).collect();
                hostcalls::set_property(property, Some(value.as_bytes())).expect("a property can be set");
            }
            What::Pause => self.action = Action::Pause,
            What::PauseUntilEnd if self.ends => {}
            What::PauseUntilEnd => self.action = Action::Pause,
            What::PauseUntilTick => {
                self.action = Action::Pause;
                self.waits_for_tick = Some(self.direction());
            }
            What::Resume { direction } => direction.resume(),
            What::Reply { status, body, headers } => {
                let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                hostcalls::send_http_response(*status, headers, Some(body.as_bytes())).expect("a reply is taken");
                self.action = Action::Pause;
            }
            What::Close => hostcalls::reset_http_request().expect("a stream can be closed"),
            What::Call { service, to, body, timeout_ms } => self.call(service, (to, body), *timeout_ms),
            What::ReplaceBody { .. }
            | What::AppendBody { .. }
            | What::PrependBody { .. }
            | What::CapitaliseBody
            | What::ReadBody => self.body(what),
            What::SharedCount { key, name, map } => set(*map, name, &shared_count(key).to_string()),
            What::Count { metric } => increment(MetricType::Counter, metric, 1),
            What::CountSize { .. } if self.size == 0 => {} // A host refuses to add nothing.
            What::CountSize { metric } => increment(MetricType::Counter, metric, self.size as i64),
            What::Record { metric, value } => {
                let id = hostcalls::define_metric(MetricType::Histogram, metric).expect("a metric can be defined");
                hostcalls::record_metric(id, *value).expect("a metric can be recorded");
            }
            What::Say { text } => log::info!("{text}"),
            What::Refuse => {
                log::error!("these are the filter's own words: no gold, no service");
                self.refused = true;
            }
            What::Panic => panic!("the test filter was told to panic"),
            What::Spin => spin(),
            What::Hoard => hoard(),
            What::Garbage => garbage(),
            What::Flood => loop {
                log::warn!("{}", "flood ".repeat(100));
            },
        }
    }

    fn header(&self, what: &What) {
        let own = self.map();
        match what {
            What::Set { name, value, map } => set(map.unwrap_or(own), name, value),
            What::Add { name, value, map } => {
                hostcalls::add_map_value(map.unwrap_or(own).kind(), name, value).expect("a header can be added");
            }
            What::Remove { name, map } => {
                hostcalls::remove_map_value(map.unwrap_or(own).kind(), name).expect("a header can be removed");
            }
            What::Copy { from, name, to, new_name } => {
                let value = hostcalls::get_map_value(from.kind(), name).ok().flatten();
                set(*to, new_name, value.as_deref().unwrap_or("-"));
            }
            What::Told { name, map } => set(*map, name, &format!("size={} ends={}", self.size, self.ends)),
            _ => {}
        }
    }

    fn body(&self, what: &What) {
        let kind = self.buffer();
        match what {
            What::ReplaceBody { text } => {
                hostcalls::set_buffer(kind, 0, self.size, text.as_bytes()).expect("a body can be replaced");
            }
            What::AppendBody { text } if self.ends => {
                hostcalls::set_buffer(kind, self.size, 0, text.as_bytes()).expect("a body can be appended to");
            }
            What::PrependBody { text } => {
                hostcalls::set_buffer(kind, 0, 0, text.as_bytes()).expect("a body can be prepended to");
            }
            What::CapitaliseBody => {
                let bytes = hostcalls::get_buffer(kind, 0, self.size).expect("a body can be read").unwrap_or_default();
                let capitals = bytes.to_ascii_uppercase();
                hostcalls::set_buffer(kind, 0, self.size, &capitals).expect("a body can be replaced");
            }
            What::ReadBody => {
                let bytes = hostcalls::get_buffer(kind, 0, self.size).expect("a body can be read").unwrap_or_default();
                assert_eq!(bytes.len(), self.size, "all that the callback names can be read");
            }
            _ => {}
        }
    }

    fn call(&mut self, service: &str, (path, body): (&str, &str), timeout_ms: u64) {
        let headers = vec![(":method", "POST"), (":path", path), (":authority", "callout.test"), ("x-callout", "1")];
        let timeout = Duration::from_millis(timeout_ms);
        match hostcalls::dispatch_http_call(service, headers, Some(body.as_bytes()), vec![], timeout) {
            Ok(_) => self.action = Action::Pause,
            Err(status) => set(self.map(), "x-call-refused", &format!("{status:?}")),
        }
    }

    fn direction(&self) -> Direction {
        match self.moment {
            Moment::ResponseHeaders | Moment::ResponseBody | Moment::ResponseTrailers => Direction::Response,
            _ => Direction::Request,
        }
    }

    fn map(&self) -> Map {
        match self.moment {
            Moment::ResponseHeaders | Moment::ResponseBody => Map::Response,
            Moment::RequestTrailers => Map::RequestTrailers,
            Moment::ResponseTrailers => Map::ResponseTrailers,
            _ => Map::Request,
        }
    }

    fn buffer(&self) -> BufferType {
        match self.moment {
            Moment::ResponseBody => BufferType::HttpResponseBody,
            Moment::CallResponse => BufferType::HttpCallResponseBody,
            _ => BufferType::HttpRequestBody,
        }
    }
}

impl Map {
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

fn set(map: Map, name: &str, value: &str) {
    hostcalls::set_map_value(map.kind(), name, Some(value)).expect("a header can be set");
}

/// Text as it is, eight bytes as a number, other bytes by their length.
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

fn spin() {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

fn hoard() {
    let mut hoard = Vec::new();
    loop {
        hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

fn garbage() {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        fn proxy_log(level: i32, text: usize, size: usize) -> i32;
        fn proxy_get_buffer_bytes(kind: i32, start: usize, size: usize, data: usize, length: usize) -> i32;
    }
    // SAFETY: the host checks every pointer; that it does is what this is about.
    let answers = unsafe {
        [proxy_log(2, 0xFFFF_FFF0, 64), proxy_log(2, 16, usize::MAX), proxy_get_buffer_bytes(0, 0, 9, 0xFFFF_FFFE, 4)]
    };
    log::info!("garbage was answered with {}", answers.map(|status| status.to_string()).join(" "));
}

fn obey(prefix: &str) {
    for (name, value) in hostcalls::get_map(MapType::HttpRequestHeaders).unwrap_or_default() {
        let Some(target) = name.strip_prefix(prefix) else { continue };
        hostcalls::set_map_value(MapType::HttpRequestHeaders, &name, None).ok();
        let target = match target {
            "path" | "authority" => format!(":{target}"),
            header => header.to_owned(),
        };
        set(Map::Request, &target, &value);
    }
}
