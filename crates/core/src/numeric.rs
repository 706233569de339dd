//! Sums, spreads and rounding in one stated order of operations.
//!
//! Floating-point sums depend on their order. Scores must be the same bit for bit on every machine
//! and after every replay, so each sum of the domain uses one of the functions here. The blocked
//! pairwise order is the one of the array library that the reference subnet uses. Exponentials and
//! logarithms come from `libm`, not from the platform's C library, for the same reason.

/// Longest block that is summed with eight running sums before the halves are summed apart.
const PAIRWISE_BLOCK: usize = 128;
const LANES: usize = 8;

/// The arithmetic that the array functions need, for `f32` and `f64`.
pub(crate) trait Real:
    Copy
    + PartialOrd
    + std::fmt::Debug
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
{
    /// Zero.
    const ZERO: Self;
    /// Distance from one to the next larger number.
    const EPSILON: Self;
    /// Rounds once to this width.
    fn narrow(value: f64) -> Self;
    /// Widens without loss.
    fn widen(self) -> f64;
    /// Square root, correctly rounded.
    fn root(self) -> Self;
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const EPSILON: Self = Self::EPSILON;

    fn narrow(value: f64) -> Self {
        value
    }

    fn widen(self) -> f64 {
        self
    }

    fn root(self) -> Self {
        self.sqrt()
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const EPSILON: Self = Self::EPSILON;

    fn narrow(value: f64) -> Self {
        to_f32(value)
    }

    fn widen(self) -> f64 {
        f64::from(self)
    }

    fn root(self) -> Self {
        self.sqrt()
    }
}

/// Rounds a double to the nearest single; out of range becomes infinite.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to the narrower width is the purpose"
)]
pub const fn to_f32(value: f64) -> f32 {
    value as f32
}

/// Sums in blocked pairwise order (eight running sums in blocks of at most 128).
pub fn pairwise_sum(values: &[f64]) -> f64 {
    pairwise(values)
}

pub(crate) fn pairwise<T: Real>(values: &[T]) -> T {
    let len = values.len();
    if len < LANES {
        return values.iter().fold(T::ZERO, |sum, value| sum + *value);
    }
    if len > PAIRWISE_BLOCK {
        let half = len / 2;
        let (low, high) = values.split_at(half - half % LANES);
        return pairwise(low) + pairwise(high);
    }
    let mut lanes = [T::ZERO; LANES];
    lanes.copy_from_slice(&values[..LANES]);
    let mut blocks = values[LANES..].chunks_exact(LANES);
    for block in &mut blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane = *lane + *value;
        }
    }
    let pair = |first: usize| lanes[first] + lanes[first + 1];
    let total = (pair(0) + pair(2)) + (pair(4) + pair(6));
    blocks.remainder().iter().fold(total, |sum, value| sum + *value)
}

/// Sums from left to right.
pub fn plain_sum(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |sum, value| sum + value)
}

/// Returns mean and population standard deviation (divisor n), both in the width of the values.
///
/// An empty list gives NaN for both, as every mean of nothing.
pub(crate) fn mean_and_deviation<T: Real>(values: &[T]) -> (T, T) {
    let count = T::narrow(values.len() as f64);
    let mean = pairwise(values) / count;
    let squares: Vec<T> = values
        .iter()
        .map(|value| {
            let distance = *value - mean;
            distance * distance
        })
        .collect();
    (mean, (pairwise(&squares) / count).root())
}

/// Sums without rounding error: the double nearest to the exact sum of finite values.
///
/// Method: Shewchuk's growing expansion with a correction for the round-half-even tie.
pub fn exact_sum(values: &[f64]) -> f64 {
    // There are never more partial sums than values.
    let mut few = [0.0; 16];
    let mut many = Vec::new();
    let room = if let Some(room) = few.get_mut(..values.len()) {
        room
    } else {
        many.resize(values.len(), 0.0);
        &mut many
    };
    let mut partials = expansion(values, room).iter().rev().copied();
    let Some(mut high) = partials.next() else { return 0.0 };
    let mut low = 0.0;
    for next in partials.by_ref() {
        let before = high;
        high = before + next;
        low = next - (high - before);
        if low.abs() > 0.0 {
            break;
        }
    }
    if let Some(rest) = partials.next()
        && ((low < 0.0 && rest < 0.0) || (low > 0.0 && rest > 0.0))
    {
        let twice = low * 2.0;
        let raised = high + twice;
        let gained = raised - high;
        if gained.total_cmp(&twice).is_eq() {
            high = raised;
        }
    }
    high
}

/// Returns the mean of finite values, rounded once (up to ties beyond twice the precision).
pub fn exact_mean(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let high = exact_sum(values);
    let mut rest = values.to_vec();
    rest.push(-high);
    let quotient = high / count;
    let remainder = (-quotient).mul_add(count, high) + exact_sum(&rest);
    quotient + remainder / count
}

/// Returns doubles that do not overlap and add up exactly to the sum, in rising order of size; `room`
/// has a place for each value.
fn expansion<'a>(values: &[f64], room: &'a mut [f64]) -> &'a [f64] {
    let mut count = 0;
    for &value in values {
        let mut carry = value;
        let mut kept = 0;
        for index in 0..count {
            let mut other = room[index];
            if carry.abs() < other.abs() {
                std::mem::swap(&mut carry, &mut other);
            }
            let high = carry + other;
            let low = other - (high - carry);
            if low.abs() > 0.0 {
                room[kept] = low;
                kept += 1;
            }
            carry = high;
        }
        room[kept] = carry;
        count = kept + 1;
    }
    &room[..count]
}

/// Rounds to `decimals` places: multiply, round half to even, divide.
pub fn round_scaled(value: f64, decimals: i32) -> f64 {
    let factor = libm::pow(10.0, f64::from(decimals));
    (value * factor).round_ties_even() / factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_sum_keeps_what_plain_sums_lose() {
        let values = [1e16, 1.0, -1e16, 1e-3];
        assert_eq!(exact_sum(&values).to_bits(), 1.001_f64.to_bits());
        assert_eq!(exact_sum(&[0.1; 10]).to_bits(), 1.0_f64.to_bits());
        assert_eq!(exact_sum(&[]).to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn exact_mean_is_rounded_once() {
        assert_eq!(exact_mean(&[0.1, 0.2, 0.3]).to_bits(), 0.2_f64.to_bits());
        assert_eq!(exact_mean(&[1e16, 2.0, -1e16]).to_bits(), (2.0_f64 / 3.0).to_bits());
    }

    #[test]
    fn pairwise_sum_of_any_length_is_close_to_exact() {
        for len in [0, 1, 7, 8, 9, 127, 128, 129, 1000] {
            let values: Vec<f64> = (0..len).map(|i| 0.1 + f64::from(i) * 1e-3).collect();
            assert!((pairwise_sum(&values) - exact_sum(&values)).abs() < 1e-9, "{len}");
        }
    }

    #[test]
    fn halves_round_to_even() {
        assert_eq!(round_scaled(0.000_05, 4).to_bits(), 0.0_f64.to_bits());
        assert_eq!(round_scaled(2.5, 0).to_bits(), 2.0_f64.to_bits());
    }
}
