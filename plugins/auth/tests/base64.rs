//! Base64 against the vectors of RFC 4648 §10 and against what is wrong.

use weir_plugin_auth::base64::decode;

#[test]
fn vectors() {
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
