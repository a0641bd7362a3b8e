//! Base64 against the vectors of RFC 4648 §10, and against invalid texts.

use weir_plugin_auth::base64::{decode, decode_url};

#[test]
fn base64_decodes_the_vectors_of_rfc_4648() {
    for (text, bytes) in [
        ("", ""),
        ("Zg==", "f"),
        ("Zm8=", "fo"),
        ("Zm9v", "foo"),
        ("Zm9vYg==", "foob"),
        ("Zm9vYmE=", "fooba"),
        ("Zm9vYmFy", "foobar"),
        ("Zg", "f"),
    ] {
        assert_eq!(decode(text.as_bytes()).as_deref(), Some(bytes.as_bytes()), "{text}");
    }
    for wrong in ["Z", "Zm9vY", "Zm 9v", "Zg===", "Z-==", "====", "Zg==Zg=="] {
        assert_eq!(decode(wrong.as_bytes()), None, "{wrong}");
    }
    assert_eq!(decode(b"+/+/").as_deref(), Some(&[0xfb, 0xff, 0xbf][..]));
}

#[test]
fn base64url_accepts_one_form_only() {
    for (text, bytes) in [("", &b""[..]), ("Zg", b"f"), ("Zm8", b"fo"), ("Zm9v", b"foo"), ("-_-_", b"\xfb\xff\xbf")] {
        assert_eq!(decode_url(text.as_bytes()).as_deref(), Some(bytes), "{text}");
    }
    for wrong in ["Z", "Zg==", "Zh", "Zm9", "+/+/", "Zm 9v", "Zg\n"] {
        assert_eq!(decode_url(wrong.as_bytes()), None, "{wrong}");
    }
}
