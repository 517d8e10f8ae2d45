//! Numbers, sizes and booleans as people write them on a command line.

/// Why a text is not the number it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberError {
    /// Not a number at all, or one followed by something else.
    Malformed,
    /// A number that does not fit.
    OutOfRange,
}

/// Whether the text asks for help instead of giving a value.
#[must_use]
pub fn is_help(text: &str) -> bool {
    text == "help" || text == "?"
}

/// Reads `on`, `yes`, `true`, `y` and their opposites.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "on" | "yes" | "true" | "y" => Some(true),
        "off" | "no" | "false" | "n" => Some(false),
        _ => None,
    }
}

/// Reads an unsigned number as C does: decimal, `0x` hexadecimal, or octal with a leading zero. A minus sign turns any
/// number of 64 bits around.
///
/// # Errors
/// Tells a malformed text from a number of more than 64 bits.
pub fn parse_uint(text: &str) -> Result<u64, NumberError> {
    match text.strip_prefix('-') {
        Some(digits) => Ok(magnitude(digits)?.wrapping_neg()),
        None => magnitude(text.strip_prefix('+').unwrap_or(text)),
    }
}

/// Reads a signed number, in the same notations as [`parse_uint`].
///
/// # Errors
/// Tells a malformed text from a number of more than 64 bits.
pub fn parse_int(text: &str) -> Result<i64, NumberError> {
    match text.strip_prefix('-') {
        Some(digits) => 0i64.checked_sub_unsigned(magnitude(digits)?),
        None => i64::try_from(magnitude(text.strip_prefix('+').unwrap_or(text))?).ok(),
    }
    .ok_or(NumberError::OutOfRange)
}

fn magnitude(text: &str) -> Result<u64, NumberError> {
    let (digits, radix) = split_radix(text);
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(NumberError::Malformed);
    }
    u64::from_str_radix(digits, radix).map_err(|_| NumberError::OutOfRange)
}

fn split_radix(text: &str) -> (&str, u32) {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return (digits, 16);
    }
    match text.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => (digits, 8),
        _ => (text, 10),
    }
}

/// Reads a size in bytes: a decimal number, with a fraction if a suffix B, K, M, G, T, P or E (either case, powers of
/// 1024) follows, or a hexadecimal number without suffix. A bare number counts units of `unit` bytes.
///
/// # Errors
/// Tells a malformed text from a size that does not fit in 64 bits.
pub fn parse_size(text: &str, unit: u64) -> Result<u64, NumberError> {
    if text.starts_with("0x") || text.starts_with("0X") {
        return magnitude(text)?.checked_mul(unit).ok_or(NumberError::OutOfRange);
    }
    let (number, unit) = match text.chars().last().and_then(suffix_bytes) {
        Some(bytes) => (&text[..text.len() - 1], bytes),
        None => (text, unit),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(NumberError::Malformed);
    }
    if !fraction.is_empty() && unit == 1 {
        return Err(NumberError::Malformed);
    }
    let whole: u64 = whole.parse().map_err(|_| NumberError::OutOfRange)?;
    whole
        .checked_mul(unit)
        .and_then(|bytes| bytes.checked_add(fraction_of(fraction, unit)))
        .ok_or(NumberError::OutOfRange)
}

fn suffix_bytes(suffix: char) -> Option<u64> {
    let exponent = match suffix.to_ascii_uppercase() {
        'B' => 0,
        'K' => 1,
        'M' => 2,
        'G' => 3,
        'T' => 4,
        'P' => 5,
        'E' => 6,
        _ => return None,
    };
    Some(1 << (10 * exponent))
}

/// The part of `unit` that the decimals say, rounded to the nearest byte. Decimals past the
/// eighteenth change nothing.
fn fraction_of(decimals: &str, unit: u64) -> u64 {
    let decimals = &decimals[..decimals.len().min(18)];
    let Ok(numerator) = decimals.parse::<u128>() else {
        return 0;
    };
    let denominator = 10u128.pow(u32::try_from(decimals.len()).unwrap_or(18));
    let bytes = (numerator * u128::from(unit) + denominator / 2) / denominator;
    u64::try_from(bytes).unwrap_or(unit)
}

/// Sixteen bytes of `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, in the order of the text.
#[must_use]
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let dashes = [8, 13, 18, 23];
    let well_formed = text.len() == 36
        && text
            .bytes()
            .enumerate()
            .all(|(index, byte)| match dashes.contains(&index) {
                true => byte == b'-',
                false => byte.is_ascii_hexdigit(),
            });
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok()?;
    well_formed.then_some(number.to_be_bytes())
}

/// Whether the text may name an object: letters, digits, `-`, `.` and `_`, starting with a letter.
#[must_use]
pub fn is_well_formed_id(id: &str) -> bool {
    id.starts_with(|c: char| c.is_ascii_alphabetic())
        && id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_all_notations() {
        assert_eq!(parse_uint("42"), Ok(42));
        assert_eq!(parse_uint("0x2A"), Ok(42));
        assert_eq!(parse_uint("052"), Ok(42));
        assert_eq!(parse_uint("0"), Ok(0));
        assert_eq!(parse_uint("-1"), Ok(u64::MAX));
        for bad in ["", "x", "0x", "1 ", "4q", "++1", "09"] {
            assert_eq!(parse_uint(bad), Err(NumberError::Malformed), "{bad}");
        }
        assert_eq!(parse_uint("18446744073709551616"), Err(NumberError::OutOfRange));
        assert_eq!(parse_int("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(parse_int("-9223372036854775809"), Err(NumberError::OutOfRange));
        assert_eq!(parse_int("-0x10"), Ok(-16));
        assert_eq!(parse_int("9223372036854775808"), Err(NumberError::OutOfRange));
        assert_eq!(parse_int("-"), Err(NumberError::Malformed));
        assert_eq!(parse_int("-+1"), Err(NumberError::Malformed));
    }

    #[test]
    fn sizes_with_and_without_suffix() {
        assert_eq!(parse_size("256", 1 << 20), Ok(256 << 20));
        assert_eq!(parse_size("262144k", 1 << 20), Ok(256 << 20));
        assert_eq!(parse_size("1.5G", 1), Ok(3 << 29));
        assert_eq!(parse_size("0x100", 1), Ok(256));
        assert_eq!(parse_size("7B", 1 << 20), Ok(7));
        assert_eq!(parse_size("16E", 1), Err(NumberError::OutOfRange));
        for bad in ["", "G", ".5G", "12Z", "1.5", "-1", "1KK", "0xK", "1.2.3G", "é"] {
            assert_eq!(parse_size(bad, 1), Err(NumberError::Malformed), "{bad}");
        }
    }

    #[test]
    fn booleans_have_four_spellings() {
        assert_eq!(parse_bool("y"), Some(true));
        assert_eq!(parse_bool("off"), Some(false));
        assert_eq!(parse_bool("1"), None);
    }

    #[test]
    fn ids() {
        assert!(is_well_formed_id("pci.1_a-b"));
        for bad in ["", "1a", "a b", "#block", "ä"] {
            assert!(!is_well_formed_id(bad), "{bad}");
        }
    }
}
