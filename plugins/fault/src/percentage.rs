//! A percentage of requests, and the draw that decides about one request.

/// The number of chances in 100 percent: the whole numbers that an `f64` represents, so no decimal of a percentage is
/// lost.
const CHANCES: u64 = 1 << 53;

/// A percentage, as the number of chances that hit, of 2 to the 53rd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percentage(u64);

impl Percentage {
    /// Every request.
    pub const ALL: Self = Self(CHANCES);

    /// Creates a percentage from 0 to 100. `None` for another number. The smallest that hits at all is about 1e-14.
    pub fn new(percent: f64) -> Option<Self> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "the factor is a power of two, and the product is used in range only"
        )]
        let chances = (percent / 100.0 * CHANCES as f64).round() as u64;
        (0.0..=100.0).contains(&percent).then_some(Self(chances))
    }

    /// True for 0 percent.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Decides about one request by an evenly distributed random number.
    pub const fn hits(self, random: u64) -> bool {
        random >> 11 < self.0
    }
}
