//! The cross-origin policy of a route, with its header values. `stream` answers preflight requests by it, and adds its
//! headers to responses, as Envoy's CORS filter does in the first place of a chain.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderMap, HeaderValue, Method};
use weir_model::StringMatch;

use crate::head::RequestHead;

/// The compiled policy of a route.
pub(crate) struct CompiledCors {
    origins: Box<[StringMatch]>,
    allows_credentials: bool,
    methods: AllowList,
    headers: AllowList,
    exposed: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    forwards_other_preflights: bool,
}

/// The methods or headers that a policy allows.
enum AllowList {
    /// Those that browsers always allow.
    Default,
    /// All; requests with credentials get those that they ask for, since `*` has no effect for them.
    Any,
    /// Those of this value.
    Listed(HeaderValue),
}

impl AllowList {
    fn new(text: &str) -> Self {
        match text {
            "" => Self::Default,
            "*" => Self::Any,
            listed => HeaderValue::from_str(listed).map_or(Self::Default, Self::Listed),
        }
    }

    fn value(&self, requested: Option<&HeaderValue>, has_credentials: bool) -> Option<HeaderValue> {
        match self {
            Self::Default => None,
            Self::Any if has_credentials => requested.cloned(),
            Self::Any => Some(HeaderValue::from_static("*")),
            Self::Listed(value) => Some(value.clone()),
        }
    }
}

impl CompiledCors {
    pub(super) fn new(model: &weir_model::CorsPolicy) -> Self {
        let value = |text: &str| HeaderValue::from_str(text).ok().filter(|value| !value.is_empty());
        // `*` has no effect on requests with credentials (Fetch standard).
        let exposes_all_with_credentials = &*model.expose_headers == "*" && model.allow_credentials;
        Self {
            origins: model.allow_origins.iter().cloned().collect(),
            allows_credentials: model.allow_credentials,
            methods: AllowList::new(&model.allow_methods),
            headers: AllowList::new(&model.allow_headers),
            exposed: value(&model.expose_headers).filter(|_| !exposes_all_with_credentials),
            max_age: value(&model.max_age),
            forwards_other_preflights: model.forwards_other_preflights,
        }
    }

    /// Returns the origin of a request, if the policy allows it.
    pub(crate) fn allowed_origin<'r>(&self, request: &'r RequestHead) -> Option<&'r HeaderValue> {
        let origin = request.headers.get(ORIGIN)?;
        self.origins.iter().any(|allowed| allowed.matches(origin.as_bytes())).then_some(origin)
    }

    /// Returns the headers of the answer to a preflight request, apart from those of [`CompiledCors::apply`]; `None` for
    /// any other request, and for one that is forwarded.
    pub(crate) fn preflight(&self, request: &RequestHead) -> Option<HeaderMap> {
        let requested = request.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        if request.method != Method::OPTIONS || requested.is_empty() || !request.headers.contains_key(ORIGIN) {
            return None;
        }
        let mut headers = HeaderMap::new();
        if self.allowed_origin(request).is_none() {
            return (!self.forwards_other_preflights).then_some(headers);
        }
        let values = [
            (ACCESS_CONTROL_ALLOW_METHODS, self.methods.value(Some(requested), self.allows_credentials)),
            (
                ACCESS_CONTROL_ALLOW_HEADERS,
                self.headers.value(request.headers.get(ACCESS_CONTROL_REQUEST_HEADERS), self.allows_credentials),
            ),
            (ACCESS_CONTROL_MAX_AGE, self.max_age.clone()),
        ];
        headers.extend(values.into_iter().filter_map(|(name, value)| Some((name, value?))));
        Some(headers)
    }

    /// Adds the headers for an allowed origin to a response. They replace those of the endpoint.
    pub(crate) fn apply(&self, origin: &HeaderValue, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.allows_credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(exposed) = &self.exposed {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }
}
