//! Values written as text on the command line.

/// Reads a boolean: on, yes, true, y and their opposites.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "on" | "yes" | "true" | "y" => Some(true),
        "off" | "no" | "false" | "n" => Some(false),
        _ => None,
    }
}

/// Reads a number as C does: decimal, `0x` hexadecimal or `0` octal, with a sign. The sign may turn any number of 64
/// bits around, as it does in C.
pub(super) fn parse_uint(text: &str) -> Option<u64> {
    let text = text.trim_start();
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let number = magnitude(digits)?;
    Some(if negative { number.wrapping_neg() } else { number })
}

/// Reads a signed number as C does.
pub(super) fn parse_int(text: &str) -> Option<i64> {
    let text = text.trim_start();
    match text.strip_prefix('-') {
        Some(digits) => 0i64.checked_sub_unsigned(magnitude(digits)?),
        None => i64::try_from(magnitude(text.strip_prefix('+').unwrap_or(text))?).ok(),
    }
}

fn magnitude(digits: &str) -> Option<u64> {
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(rest) => (rest, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// Reads a number of bytes: decimal with an optional fraction, or hexadecimal, and an optional suffix
/// B, K, M, G, T, P or E (powers of 1024) in either case.
///
/// `None` if `text` is anything else, or more than 64 bits.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim_start();
    let (number, unit) = match text.char_indices().last()? {
        (last, suffix) if suffix.is_ascii_alphabetic() && !is_hex(text) => (&text[..last], unit(suffix)?),
        _ => (text, 1),
    };
    if is_hex(number) {
        return magnitude(number)?.checked_mul(unit);
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || (unit == 1 && number.contains('.')) {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    whole.checked_add(fraction_of(fraction, unit))
}

fn is_hex(text: &str) -> bool {
    text.starts_with("0x") || text.starts_with("0X")
}

fn unit(suffix: char) -> Option<u64> {
    let shift = match suffix.to_ascii_uppercase() {
        'B' => 0,
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        'P' => 50,
        'E' => 60,
        _ => return None,
    };
    Some(1 << shift)
}

/// `0.DIGITS` of `unit`, rounded to the nearest byte. Digits beyond the eighteenth make no difference.
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let digits = &digits[..digits.len().min(18)];
    let scale = 10u128.pow(digits.len().try_into().unwrap_or(18));
    let numerator: u128 = digits.parse().unwrap_or(0);
    let bytes = (numerator * u128::from(unit) + scale / 2) / scale;
    u64::try_from(bytes).unwrap_or(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_suffixes_and_fractions() {
        for (text, size) in [
            ("0", 0),
            ("1024", 1024),
            ("512B", 512),
            ("4k", 4096),
            ("1.5K", 1536),
            ("0.5G", 1 << 29),
            ("2M", 2 << 20),
            ("1E", 1 << 60),
            ("0x10", 16),
        ] {
            assert_eq!(parse_size(text), Some(size), "{text}");
        }
        for text in ["", "K", "-1", "1.5", "1X", "16E", "1KK", "x", "1.2.3K", "0xK", "é"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        assert_eq!(parse_int("-0x10"), Some(-16));
        assert_eq!(parse_int("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_int("9223372036854775808"), None);
        assert_eq!(parse_int("010"), Some(8));
        assert_eq!(parse_int("0"), Some(0));
        assert_eq!(parse_int("1x"), None);
        assert_eq!(parse_uint("-1"), Some(u64::MAX));
        assert_eq!(parse_uint("+7"), Some(7));
        assert_eq!(parse_uint("--1"), None);
        assert_eq!(parse_uint(""), None);
    }

    #[test]
    fn booleans_have_four_spellings() {
        assert_eq!(parse_bool("y"), Some(true));
        assert_eq!(parse_bool("off"), Some(false));
        assert_eq!(parse_bool("1"), None);
    }
}
