//! Range checks of single keys. Unlike garde's built-in `range`, they name the value found and refuse NaN.

use garde::Error;

/// Whether a value is in its range, or what was found and expected.
pub type Checked = Result<(), Error>;

fn expect(ok: bool, found: impl std::fmt::Display, expected: &str) -> Checked {
    if ok { Ok(()) } else { Err(Error::new(format!("found {found}, expected {expected}"))) }
}

/// A finite number above 0.
pub fn positive(value: &f64, _: &()) -> Checked {
    expect(value.is_finite() && *value > 0.0, value, "a finite number above 0")
}

/// A learning rate: above 0, and small enough for the first step to leave finite weights.
pub fn learning_rate(value: &f64, _: &()) -> Checked {
    expect(*value > 0.0 && *value <= 1000.0, value, "a learning rate above 0, at most 1000")
}

/// A finite number, 0 or above.
pub fn not_negative(value: &f64, _: &()) -> Checked {
    expect(value.is_finite() && *value >= 0.0, value, "a finite number, 0 or above")
}

/// A share of a whole: 0..=1.
pub fn fraction(value: &f64, _: &()) -> Checked {
    expect((0.0..=1.0).contains(value), value, "a fraction between 0 and 1")
}

/// A decay factor: 0 or above and below 1.
pub fn decay(value: &f64, _: &()) -> Checked {
    expect((0.0..1.0).contains(value), value, "a number from 0 up to, but not including, 1")
}

/// A divisor: finite and 1 or above.
pub fn divisor(value: &f64, _: &()) -> Checked {
    expect(value.is_finite() && *value >= 1.0, value, "a finite number, 1 or above")
}

/// Both AdamW decay rates.
pub fn decays(values: &[f64; 2], ctx: &()) -> Checked {
    values.iter().try_for_each(|value| decay(value, ctx))
}

/// A count of at least one.
pub fn at_least_one(value: &usize, _: &()) -> Checked {
    expect(*value >= 1, value, "1 or more")
}

/// The largest number of threads that is accepted.
pub const MAX_THREADS: usize = 1024;

/// A number of threads: at least one, and few enough for the system to start them.
pub fn thread_count(value: &usize, _: &()) -> Checked {
    expect((1..=MAX_THREADS).contains(value), value, "1 to 1024 threads")
}

/// Steps of a phase: at least one, and few enough for a run's steps to be counted.
pub fn count(value: &usize, _: &()) -> Checked {
    expect((1..=1_000_000_000).contains(value), value, "1 to 1000000000")
}

/// Passes over the images: at least one, and few enough for a run's steps to be counted.
pub fn passes(value: &usize, _: &()) -> Checked {
    expect((1..=100_000).contains(value), value, "1 to 100000")
}

/// A number of images: at least one, and few enough for an epoch's order to fit into memory.
pub fn image_count(value: &usize, _: &()) -> Checked {
    expect((1..=100_000_000).contains(value), value, "1 to 100000000 images")
}

/// A side of a map: at least one cell, and few enough for a batch's maps, one for each image and class, to fit into
/// memory.
pub fn map_side(value: &usize, _: &()) -> Checked {
    expect((1..=1024).contains(value), value, "a side of 1 to 1024 cells")
}

/// A side in pixels that a photograph can be brought to.
pub fn side(value: &usize, _: &()) -> Checked {
    expect((8..=4096).contains(value), value, "a side of 8 to 4096 pixels")
}

/// A mean of each channel, for values in 0..=1.
pub fn channel_means(values: &[f32; 3], _: &()) -> Checked {
    expect(values.iter().all(|value| value.is_finite()), format!("{values:?}"), "three finite numbers")
}

/// A standard deviation of each channel, likewise.
pub fn channel_deviations(values: &[f32; 3], _: &()) -> Checked {
    expect(values.iter().all(|v| v.is_finite() && *v > 0.0), format!("{values:?}"), "three finite numbers above 0")
}

/// A name or path that is not blank.
pub fn not_blank(value: &str, _: &()) -> Checked {
    expect(!value.trim().is_empty(), "an empty text", "a name or path")
}

/// A SHA-256 as hexadecimal digits.
pub fn hex_digest(value: &str, _: &()) -> Checked {
    expect(value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit()), value, "64 hexadecimal digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_a_number_is_in_no_range() {
        for check in [positive, not_negative, fraction, decay, divisor, learning_rate] {
            assert!(check(&f64::NAN, &()).is_err());
            assert!(check(&f64::INFINITY, &()).is_err());
        }
    }

    #[test]
    fn the_message_names_what_was_found() {
        assert_eq!(positive(&-1.0, &()).unwrap_err().message(), "found -1, expected a finite number above 0");
        assert!(positive(&0.0, &()).is_err() && positive(&1e-9, &()).is_ok());
        assert!(decay(&1.0, &()).is_err() && fraction(&1.0, &()).is_ok());
        assert!(side(&7, &()).is_err() && side(&8, &()).is_ok() && side(&4097, &()).is_err());
    }

    #[test]
    fn counts_have_two_ends() {
        type Check = fn(&usize, &()) -> Checked;
        let counts: [(Check, usize); 5] = [
            (count, 1_000_000_000),
            (passes, 100_000),
            (image_count, 100_000_000),
            (map_side, 1024),
            (thread_count, MAX_THREADS),
        ];
        for (check, most) in counts {
            assert!(check(&0, &()).is_err() && check(&1, &()).is_ok());
            assert!(check(&most, &()).is_ok() && check(&(most + 1), &()).is_err());
        }
    }
}
