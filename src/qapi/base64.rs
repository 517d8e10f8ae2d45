//! Base 64 (RFC 4648 section 4), in which JSON and command lines carry bytes.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The text form of `bytes`, padded.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for position in 0..4 {
            if position > group.len() {
                text.push('=');
                continue;
            }
            let index = (bits >> (18 - 6 * position)) & 63;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

/// The bytes of a text, in which white space is skipped; none if it has other characters or an impossible length.
#[must_use]
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    if digits.len() % 4 != 0 {
        return None;
    }
    let padding = digits.iter().rev().take_while(|digit| **digit == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3);
    for (index, group) in digits.chunks_exact(4).enumerate() {
        let is_last = (index + 1) * 4 == digits.len();
        let filled = if is_last { 4 - padding } else { 4 };
        let mut bits = 0u32;
        for digit in &group[..filled] {
            bits = bits << 6 | sextet(*digit)?;
        }
        bits <<= 6 * (4 - filled);
        bytes.extend_from_slice(&bits.to_be_bytes()[1..filled]);
    }
    Some(bytes)
}

fn sextet(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_standard() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text.as_bytes()).unwrap(), bytes.as_bytes());
        }
        assert_eq!(encode(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn white_space_is_skipped() {
        assert_eq!(decode(b"Zm9v\n YmE=\n").unwrap(), b"fooba");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["!!!", "Z", "Zg===", "Zm9vY"] {
            assert!(decode(text.as_bytes()).is_none(), "{text}");
        }
    }
}
