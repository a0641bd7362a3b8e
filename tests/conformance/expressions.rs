//! Cases of CEL expressions. Each expression is created, evaluated on the request, and deleted.

use crate::case::{Case, RequestSpec};

/// Expressions that both proxies accept.
const ACCEPTED: [&str; 38] = [
    "request.method",
    "request.path",
    "request.url_path",
    "request.host",
    "request.scheme",
    "request.headers['x-sent']",
    "request['headers']['x-sent']",
    "request.headers['x-sent'] == 'yes'",
    "request.headers['x-sent'] == 'no'",
    "request.headers['x-nobody'] == 'no'",
    "request.headers['x-nobody'] == 'no' || true",
    "has(request.headers)",
    "'x-sent' in request.headers",
    "'x-nobody' in request.headers",
    "request.method == 'POST' && request.path.startsWith('/case')",
    "request.path.contains('case') ? 'one' : 'other'",
    "request.path.endsWith('!')",
    "request.path.matches('^/case/[0-9]+$')",
    "request.path.matches('^/other')",
    "request.size",
    "request.size + 1",
    "request.size * 2 - 1",
    "request.size > 5 && request.size <= 12",
    "request.protocol",
    "request.time > timestamp('2020-01-01T00:00:00Z')",
    "source.port > 0",
    "connection.mtls",
    "size(request.path) > 3",
    "1 + 2",
    "1.5",
    "7u",
    "true && !false",
    "'text'",
    "b'bytes'",
    "null",
    "duration('1500ms')",
    "plugin_name",
    "7 / 0",
];

/// Expressions that both proxies reject.
const REJECTED: [&str; 6] = ["", "1 +", "request.", "a b", "'open", "(1"];

/// Returns one case for each expression. Both proxies number expressions in the order of their creation.
pub(crate) fn cases() -> Vec<Case> {
    let accepted = ACCEPTED.iter().enumerate().map(|(token, text)| {
        let token = format!("\\x{token:02x}\\x00\\x00\\x00");
        Case::new(
            format!("expression {text}"),
            &[
                &format!("request_headers proxy_call_foreign_function \"expr_create\" \"{text}\""),
                &format!("request_headers proxy_call_foreign_function \"expr_evaluate\" \"{token}\""),
                &format!("request_headers proxy_call_foreign_function \"expr_delete\" \"{token}\""),
                &format!("request_headers proxy_call_foreign_function \"expr_evaluate\" \"{token}\""),
            ],
        )
    });
    let rejected = REJECTED.iter().map(|text| {
        let step = format!("request_headers proxy_call_foreign_function \"expr_create\" \"{text}\"");
        Case::new(format!("expression refused {text}"), &[&step])
    });
    let misused = Case::new(
        "expression: wrong tokens",
        &[
            "request_headers proxy_call_foreign_function \"expr_evaluate\" \"\"",
            "request_headers proxy_call_foreign_function \"expr_evaluate\" \"\\xff\\xff\\x00\\x00\"",
            "request_headers proxy_call_foreign_function \"expr_delete\" \"x\"",
            "request_headers proxy_call_foreign_function \"expr_delete\" \"\\xff\\xff\\x00\\x00\"",
        ],
    );
    let request = RequestSpec { method: "POST", body: "request-body", ..RequestSpec::default() };
    accepted.chain(rejected).chain([misused]).map(|case| case.with_request(request.clone())).collect()
}
