//! Tests with heads that two servers could interpret differently.

use super::*;

const MAX_HEADERS: usize = 100;

fn sanitized(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<RequestHead, ProxyError> {
    sanitized_as(Version::HTTP_11, method, target, headers)
}

fn sanitized_as(
    version: Version,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> Result<RequestHead, ProxyError> {
    let mut builder = http::Request::builder().method(method).uri(target).version(version);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let origin = RequestOrigin {
        peer: "192.0.2.1".parse().unwrap(),
        scheme: "http",
        options: &DownstreamProtocolOptions::default(),
    };
    request(builder.body(()).unwrap().into_parts().0, None, origin)
}

/// Returns the remaining headers, without those that are always added.
fn remaining(head: &HeaderMap) -> Vec<String> {
    let added = [FORWARDED_FOR, FORWARDED_PROTO, REQUEST_ID];
    let others = head.iter().filter(|(name, _)| !added.contains(*name));
    let mut lines: Vec<_> = others.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    lines
}

#[test]
fn request_has_exactly_one_valid_host() {
    for (target, hosts, expected) in [
        ("/", &["a.com"][..], Ok("a.com")),
        ("/", &["a.com:8080"], Ok("a.com:8080")),
        ("/", &["[::1]:80"], Ok("[::1]:80")),
        ("/", &["A.com"], Ok("A.com")),
        ("/", &[""], Ok("")),
        ("/", &[], Err("no host")),
        ("/", &["a.com", "b.com"], Err("more than one host header")),
        ("/", &["a.com", "a.com"], Err("more than one host header")),
        ("/", &["a.com, b.com"], Err("the host is not valid")),
        ("/", &["a.com/x"], Err("the host is not valid")),
        ("/", &["user@a.com"], Err("the host is not valid")),
        ("/", &["a.com:80:90"], Err("the host is not valid")),
        ("/", &["a.com:x"], Err("the host is not valid")),
        ("/", &["a.com:123456"], Err("the host is not valid")),
        ("/", &["a.com#b"], Err("the host is not valid")),
        ("/", &["a com"], Err("the host is not valid")),
        ("/", &["[::1"], Err("the host is not valid")),
        ("http://a.com/", &["a.com"], Ok("a.com")),
        ("http://a.com/", &["A.COM"], Ok("A.COM")),
        ("http://a.com/", &[], Err("no host")),
        ("http://a.com/", &["b.com"], Err("the host header is not the target's host")),
        ("http://a.com:80/", &["a.com"], Err("the host header is not the target's host")),
        ("http://user@a.com/", &["user@a.com"], Err("the host is not valid")),
        ("ftp://a.com/", &["a.com"], Err("the target's scheme is not http or https")),
    ] {
        let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        let result = sanitized("GET", target, &headers);
        let expected = expected.map(HeaderValue::from_static).map_err(ProxyError::BadRequest);
        assert_eq!(
            result.as_ref().map(|head| head.authority.clone()),
            expected.as_ref().cloned(),
            "{target} {hosts:?}"
        );
        assert!(result.is_ok_and(|head| !head.headers.contains_key(HOST)) || expected.is_err());
    }
    assert_eq!(sanitized_as(Version::HTTP_10, "GET", "/", &[]).unwrap().authority, "");
    assert!(sanitized_as(Version::HTTP_2, "GET", "/", &[]).is_err());
}

#[test]
fn hop_by_hop_and_internal_headers_are_removed() {
    for (headers, expected) in [
        (&[("connection", "close"), ("x-a", "1")][..], &["x-a: 1"][..]),
        (&[("proxy-connection", "keep-alive"), ("keep-alive", "5")], &[]),
        (&[("connection", "te"), ("te", "trailers")], &["te: trailers"]),
        (&[("te", "gzip;q=1, Trailers")], &["te: trailers"]),
        (&[("te", "gzip")], &[]),
        (&[("trailer", "x-sum")], &["trailer: x-sum"]),
        (&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAM")], &[]),
        (&[("expect", "100-Continue")], &[]),
        (&[("expect", "100-continue, 100-Continue"), ("expect", ",")], &[]),
        (&[("x-weir-target", "evil"), ("X-Weir-Identity", "admin"), ("x-weird", "1")], &["x-weird: 1"]),
        (&[("transfer-encoding", "chunked")], &[]),
        (&[("content-length", "5"), ("content-length", "5")], &["content-length: 5"]),
        (&[("content-length", "5, 5")], &["content-length: 5"]),
    ] {
        let mut all = vec![("host", "a.com")];
        all.extend_from_slice(headers);
        assert_eq!(remaining(&sanitized("POST", "/", &all).unwrap().headers), expected, "{headers:?}");
    }
}

#[test]
fn ambiguous_request_is_rejected() {
    for (method, target, headers, expected) in [
        ("CONNECT", "a.com:443", &[][..], "CONNECT is not supported"),
        (
            "POST",
            "/",
            &[("connection", "upgrade"), ("upgrade", "websocket"), ("content-length", "1")],
            "a request that switches protocols has a body",
        ),
        ("GET", "a.com", &[], "the target is a host"),
        ("GET", "a.com:80", &[], "the target is a host"),
        ("OPTIONS", "a.com:80", &[], "the target is a host"),
        ("POST", "/", &[("content-length", "5"), ("content-length", "6")], "content-length is not one number"),
        ("POST", "/", &[("content-length", "5, 6")], "content-length is not one number"),
        ("POST", "/", &[("content-length", "+5")], "content-length is not one number"),
        ("POST", "/", &[("content-length", "-1")], "content-length is not one number"),
        ("POST", "/", &[("content-length", "0x5")], "content-length is not one number"),
        ("POST", "/", &[("content-length", "")], "content-length is not one number"),
        ("GET", "/a/../../b", &[], "the path leaves the root"),
        ("GET", "/a%2fb", &[], "the path has a hidden separator"),
        ("GET", "*", &[], "the path does not begin with a slash"),
    ] {
        let mut all = vec![("host", "a.com")];
        all.extend_from_slice(headers);
        let all = if method == "CONNECT" { &[][..] } else { &all[..] };
        let result = sanitized(method, target, all);
        assert_eq!(result.err(), Some(ProxyError::BadRequest(expected)), "{method} {target} {headers:?}");
    }
    for expectation in ["the-unexpected", "100-continue, x=y"] {
        let unexpected = sanitized("POST", "/", &[("host", "a.com"), ("expect", expectation)]);
        assert_eq!(unexpected.err(), Some(ProxyError::ExpectationFailed), "{expectation}");
    }
    let secured = sanitized("GET", "https://a.com/", &[("host", "a.com")]);
    assert_eq!(secured.err(), Some(ProxyError::Misdirected));
    let many: Vec<_> = std::iter::once(("host", "a.com")).chain([("a", "b"); MAX_HEADERS]).collect();
    assert_eq!(sanitized("GET", "/", &many).err(), Some(ProxyError::HeadersTooLarge));
    assert!(sanitized("GET", "/", &many[..MAX_HEADERS]).is_ok());
}

#[test]
fn forwarded_headers_name_peer_and_scheme() {
    for (headers, expected) in [
        (&[][..], "192.0.2.1"),
        (&[("x-forwarded-for", "10.0.0.1")], "10.0.0.1, 192.0.2.1"),
        (
            &[("x-forwarded-for", "10.0.0.1, 10.0.0.2"), ("x-forwarded-for", "10.0.0.3")],
            "10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.1",
        ),
        (&[("x-forwarded-proto", "https")], "192.0.2.1"),
    ] {
        let mut all = vec![("host", "a.com")];
        all.extend_from_slice(headers);
        let head = sanitized("GET", "/", &all).unwrap().headers;
        let chain: Vec<_> = head.get_all(FORWARDED_FOR).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(chain, [expected], "{headers:?}");
        assert_eq!(head[FORWARDED_PROTO], "http");
    }
    for (address, expected) in [
        ("::1", "::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("255.255.255.255", "255.255.255.255"),
    ] {
        let mut text = Vec::new();
        write_address(&mut text, address.parse().unwrap());
        assert_eq!(text, expected.as_bytes());
    }
}

#[test]
fn request_id_is_retained_or_generated() {
    let id = |value: &str| {
        let head = sanitized("GET", "/", &[("host", "a.com"), ("x-request-id", value)]).unwrap();
        head.headers[REQUEST_ID].to_str().unwrap().to_owned()
    };
    assert_eq!(id("abc-123"), "abc-123");
    let (long, fresh) = ("x".repeat(MAX_REQUEST_ID_BYTES + 1), id(""));
    for made in [id("a b"), id(&long), fresh.clone()] {
        assert!(made.len() == 36 && made.as_bytes()[14] == b'4' && "89ab".contains(&made[19..20]), "{made}");
        let dashes: Vec<_> = made.match_indices('-').map(|(at, _)| at).collect();
        assert_eq!(dashes, [8, 13, 18, 23]);
    }
    assert_ne!(id(""), fresh);
}

#[test]
fn ambiguous_response_is_repaired_or_rejected() {
    let sanitized = |status: u16, headers: &[(&str, &str)]| {
        let mut builder = http::Response::builder().status(status);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        response(
            builder.body(()).unwrap().into_parts().0,
            ResponseOrigin { max_headers: MAX_HEADERS, upgrade: None, is_connect: false },
        )
        .map(|head| remaining(&head.headers))
    };
    for (status, headers, expected) in [
        (200, &[("connection", "x-a"), ("x-b", "2"), ("keep-alive", "timeout=5")][..], &["x-b: 2"][..]),
        (200, &[("content-length", "5"), ("content-length", "5")], &["content-length: 5"]),
        (204, &[("content-length", "5")], &[]),
        (304, &[("content-length", "5")], &["content-length: 5"]),
        (200, &[("upgrade", "h2c"), ("trailer", "x-sum")], &["trailer: x-sum"]),
    ] {
        assert_eq!(sanitized(status, headers).unwrap(), expected, "{status} {headers:?}");
    }
    for (status, headers) in
        [(101, &[("upgrade", "websocket")][..]), (200, &[("content-length", "5"), ("content-length", "6")])]
    {
        assert!(matches!(sanitized(status, headers), Err(ProxyError::UpstreamProtocol(_))), "{status} {headers:?}");
    }
    assert!(sanitized(200, &[("a", "b"); MAX_HEADERS + 1]).is_err());
}

#[test]
fn remaining_headers_have_their_order() {
    let names = ["a", "x-weir-b", "c", "expect", "d", "te", "e"];
    let headers: Vec<_> =
        names.iter().map(|name| (*name, if *name == "expect" { "100-continue" } else { "1" })).collect();
    let head = sanitized("GET", "/", &[&headers[..], &[("host", "a.com")]].concat()).unwrap();
    let order: Vec<_> = head.headers.keys().map(HeaderName::as_str).filter(|name| name.len() == 1).collect();
    assert_eq!(order, ["a", "c", "d", "e"]);
}

#[test]
fn cookies_of_http2_are_joined() {
    let cookies = |count: usize| -> Vec<(&str, &str)> { std::iter::repeat_n(("cookie", "a=b"), count).collect() };
    let others: Vec<String> = (0..MAX_HEADERS - 1).map(|index| format!("x-{index}")).collect();
    let full: Vec<_> = others.iter().map(|name| (name.as_str(), "1")).collect();
    for (version, headers, expected) in [
        (
            Version::HTTP_2,
            vec![("cookie", "a=b"), ("cookie", "canary=1"), ("cookie", "c=d")],
            Ok(vec!["a=b; canary=1; c=d"]),
        ),
        (Version::HTTP_2, vec![("cookie", "a=b; c=d")], Ok(vec!["a=b; c=d"])),
        (Version::HTTP_11, vec![("host", "a.com"), ("cookie", "a=b"), ("cookie", "c=d")], Ok(vec!["a=b", "c=d"])),
        (Version::HTTP_2, [full.clone(), cookies(3)].concat(), Ok(vec!["a=b; a=b; a=b"])),
        (Version::HTTP_2, [full, vec![("x-more", "1")], cookies(1)].concat(), Err(ProxyError::HeadersTooLarge)),
        (Version::HTTP_2, cookies(MAX_COOKIE_HEADERS + 1), Err(ProxyError::HeadersTooLarge)),
    ] {
        let result = sanitized_as(version, "GET", "http://a.com/", &headers);
        let joined = result.map(|head| head.headers.get_all("cookie").iter().cloned().collect::<Vec<_>>());
        assert_eq!(joined, expected.map(|values| values.into_iter().map(HeaderValue::from_static).collect()));
    }
}

#[test]
fn allowed_upgrade_is_retained() {
    let upgrade = |protocol| [("host", "a.com"), ("connection", "Upgrade"), ("upgrade", protocol), ("keep-alive", "5")];
    let head = sanitized("GET", "/", &upgrade("WebSocket")).unwrap();
    assert_eq!(remaining(&head.headers), ["connection: upgrade", "upgrade: WebSocket"]);
    assert_eq!(head.upgrade, Some(HeaderValue::from_static("WebSocket")));
    let refused = sanitized("GET", "/", &upgrade("other")).unwrap_err();
    assert_eq!(refused, ProxyError::UpgradeNotAllowed("other".to_owned()));
    for (version, protocol) in [(Version::HTTP_11, "h2c"), (Version::HTTP_10, "websocket")] {
        let ignored = sanitized_as(version, "GET", "/", &upgrade(protocol)).unwrap();
        assert!(ignored.upgrade.is_none() && remaining(&ignored.headers).is_empty(), "{version:?} {protocol}");
    }
}
