//! Multiplication and division of decimals.
//!
//! oxsdatatypes refuses a product of more than eighteen fraction digits and a quotient of two long numbers.
//! XPath wants these cut to the digits the processor has, so both are computed here on the scaled integers.

use oxsdatatypes::Decimal;

// A decimal is this many times its value, as an integer.
const SCALE: u128 = 1_000_000_000_000_000_000;
const DIGITS: u32 = 18;

fn split(value: Decimal) -> (bool, u128) {
    let scaled = i128::from_be_bytes(value.to_be_bytes());
    (scaled < 0, scaled.unsigned_abs())
}

fn join(negative: bool, magnitude: u128) -> Option<Decimal> {
    let scaled = if negative {
        0_i128.checked_sub_unsigned(magnitude)?
    } else {
        i128::try_from(magnitude).ok()?
    };
    Some(Decimal::from_be_bytes(scaled.to_be_bytes()))
}

/// The product, cut to eighteen fraction digits; `None` on overflow.
pub(super) fn multiply(left: Decimal, right: Decimal) -> Option<Decimal> {
    let (left_negative, left) = split(left);
    let (right_negative, right) = split(right);
    let (left_whole, left_rest) = (left / SCALE, left % SCALE);
    let (right_whole, right_rest) = (right / SCALE, right % SCALE);
    let magnitude = left_whole
        .checked_mul(right_whole)?
        .checked_mul(SCALE)?
        .checked_add(left_whole.checked_mul(right_rest)?)?
        .checked_add(left_rest.checked_mul(right_whole)?)?
        // Both rests are below ten to the power of eighteen, so their product fits.
        .checked_add(left_rest * right_rest / SCALE)?;
    join(left_negative != right_negative, magnitude)
}

/// The quotient, cut to eighteen fraction digits; `None` on overflow and for a divisor of zero.
pub(super) fn divide(left: Decimal, right: Decimal) -> Option<Decimal> {
    let (left_negative, left) = split(left);
    let (right_negative, right) = split(right);
    let mut quotient = left.checked_div(right)?;
    let mut rest = left % right;
    if let Some(scaled) = rest.checked_mul(SCALE) {
        quotient = quotient.checked_mul(SCALE)?.checked_add(scaled / right)?;
    } else {
        for _ in 0..DIGITS {
            let (digit, next) = tenfold(rest, right);
            quotient = quotient.checked_mul(10)?.checked_add(digit)?;
            rest = next;
        }
    }
    join(left_negative != right_negative, quotient)
}

// Ten times a rest, divided by the divisor. The rest is below the divisor, which is at most 2^127, so a doubled rest fits
// where a tenfold one may not: ten is reached by doubling and adding, along its binary digits 1010.
fn tenfold(rest: u128, divisor: u128) -> (u128, u128) {
    let (mut digit, mut sum) = (0, rest);
    for add in [false, true, false] {
        digit *= 2;
        sum *= 2;
        if sum >= divisor {
            sum -= divisor;
            digit += 1;
        }
        if add {
            sum += rest;
            if sum >= divisor {
                sum -= divisor;
                digit += 1;
            }
        }
    }
    (digit, sum)
}
