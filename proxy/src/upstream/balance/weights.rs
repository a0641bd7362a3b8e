//! Weights of endpoints, as all balancers use them.

/// Returns true if all weights above 0 are equal.
pub(super) fn are_equal(weights: &[u32]) -> bool {
    let mut shares = weights.iter().filter(|weight| **weight > 0);
    let first = shares.next();
    shares.all(|weight| Some(weight) == first)
}

/// Returns the positions with a weight above 0.
pub(super) fn usable_positions(weights: &[u32]) -> Box<[usize]> {
    (0..weights.len()).filter(|index| weights[*index] > 0).collect()
}
