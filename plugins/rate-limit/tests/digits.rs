//! The formatting of numbers against that of the standard library.

use weir_plugin_rate_limit::digits::{Decimal, push_hex};

#[test]
fn digits_equal_those_of_the_standard_library() {
    let powers = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
    for number in powers.chain([0, 9, 10, 99, 100, u64::MAX - 1, u64::MAX]) {
        assert_eq!(Decimal::new(number).as_bytes(), number.to_string().as_bytes());
        assert_eq!(Decimal::new(number).to_string(), number.to_string());
        for (digits, expected) in [(16, format!("{number:016x}")), (5, format!("{number:05x}"))] {
            let mut text = String::new();
            push_hex(&mut text, number, digits);
            assert_eq!(text, expected);
        }
    }
}
