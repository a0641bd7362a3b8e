//! The peer of a connection against principals and IP blocks.

use weir_plugin_auth::peer::{IpBlock, Peer, PrincipalMatch};

fn from(address: &str) -> Peer {
    Peer::new(None, Some(address))
}

#[test]
fn ip_block_contains_addresses_with_its_prefix() {
    for (block, inside, outside) in [
        ("10.0.0.0/8", "10.255.0.1:80", "11.0.0.1:80"),
        ("10.0.0.0/8", "[::ffff:10.1.1.1]:80", "[fd00::1]:80"),
        ("127.0.0.1", "127.0.0.1:1", "127.0.0.2:1"),
        ("fd00::/8", "[fdff::1]:80", "[fe00::1]:80"),
        ("192.168.1.128/25", "192.168.1.200:1", "192.168.1.100:1"),
        ("::1/128", "[::1]:1", "[::2]:1"),
        ("fe80::/10", "[fe80::1%2]:1", "[fd80::1]:1"),
    ] {
        let block = IpBlock::parse(block).unwrap();
        assert!(from(inside).is_in(&block) && !from(outside).is_in(&block), "{block:?}");
    }
    let (all, all6) = (IpBlock::parse("0.0.0.0/0").unwrap(), IpBlock::parse("::/0").unwrap());
    assert!(from("1.2.3.4:5").is_in(&all) && !from("[::2]:1").is_in(&all));
    assert!(from("[::2]:1").is_in(&all6) && from("1.2.3.4:5").is_in(&all6));
    for wrong in ["", "10.0.0.0/33", "10.0.0.1/8", "fd00::1/8", "10.0.0/8", "host/8", "10.0.0.0/", "10.0.0.0/-1"] {
        assert!(IpBlock::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn principal_matches_by_path_of_spiffe_id() {
    let principal = |id: &str| Peer::new(Some(id.to_owned()), None).principal().map(str::to_owned);
    assert_eq!(principal("spiffe://mesh.example/ns/shop/sa/web").as_deref(), Some("/ns/shop/sa/web"));
    assert_eq!((principal("https://x/ns/shop"), principal("spiffe://mesh.example")), (None, None));
    let shop = PrincipalMatch::parse("/ns/shop/*").unwrap();
    assert!(shop.matches("/ns/shop/sa/web") && !shop.matches("/ns/shopping/sa/web") && !shop.matches("/ns/shop"));
    let web = PrincipalMatch::parse("/ns/shop/sa/web").unwrap();
    assert!(web.matches("/ns/shop/sa/web") && !web.matches("/ns/shop/sa/web2"));
    for wrong in ["", "/", "/*", "ns/shop", "/ns/*/sa", "*", "/ns/shop*"] {
        assert_eq!(PrincipalMatch::parse(wrong), None, "{wrong}");
    }
}
