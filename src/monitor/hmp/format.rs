//! Formats of numbers and memory: `/COUNT FORMAT SIZE`, as in `x/4xg`.

/// How numbers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    /// How many.
    pub(super) count: u64,
    /// `o`, `d`, `u`, `x`, `i` or `c`.
    pub(super) letter: char,
    /// Bytes of each: 1, 2, 4 or 8.
    pub(super) size: u8,
}

impl Default for Format {
    fn default() -> Self {
        Self {
            count: 1,
            letter: 'x',
            size: 4,
        }
    }
}

impl Format {
    /// Reads what follows a slash; what it leaves out is as it was the last time.
    ///
    /// # Errors
    /// Names the character that is none of the format's.
    pub(super) fn parse(text: &str, last: Self) -> Result<Self, String> {
        let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        let (count, letters) = text.split_at(digits);
        let mut format = Self {
            count: count.parse().unwrap_or(1),
            ..last
        };
        for letter in letters.chars() {
            match letter {
                'o' | 'd' | 'u' | 'x' | 'i' | 'c' => format.letter = letter,
                'b' => format.size = 1,
                'h' => format.size = 2,
                'w' => format.size = 4,
                'g' | 'L' => format.size = 8,
                other => return Err(format!("invalid char in format: '{other}'")),
            }
        }
        Ok(format)
    }

    /// Bytes of each number in a dump: characters are bytes.
    pub(super) fn width(self) -> u64 {
        if self.letter == 'c' { 1 } else { self.size.into() }
    }

    /// A number by itself.
    pub(super) fn number(self, value: i64) -> String {
        match self.letter {
            'o' if value == 0 => "0".to_owned(),
            'o' => format!("0{value:o}"),
            'd' => value.to_string(),
            'u' => (value as u64).to_string(),
            'c' => character(value as u64),
            _ if value == 0 => "0".to_owned(),
            _ => format!("{value:#x}"),
        }
    }

    /// A number of a dump, in a column.
    fn column(self, value: u64) -> String {
        let bits = usize::from(self.size) * 8;
        match self.letter {
            'o' if value == 0 => format!("{:>width$}", 0, width = bits.div_ceil(3)),
            'o' => format!("{:>width$}", format!("0{value:o}"), width = bits.div_ceil(3)),
            'd' | 'u' => format!("{value:width$}", width = (bits * 10).div_ceil(33)),
            'c' => character(value),
            _ => format!("0x{value:0width$x}", width = bits / 4),
        }
    }

    /// One line of a dump.
    pub(super) fn line(self, addr: u64, bytes: &[u8]) -> String {
        let width = usize::try_from(self.width()).unwrap_or(1);
        let numbers = bytes.chunks(width).map(|chunk| {
            let mut value = [0; 8];
            value[..chunk.len()].copy_from_slice(chunk);
            format!(" {}", self.column(u64::from_le_bytes(value)))
        });
        format!("{addr:016x}:{}\n", numbers.collect::<String>())
    }

    /// Bytes of a line of a dump.
    pub(super) fn line_size(self) -> u64 {
        if self.size == 1 { 8 } else { 16 }
    }
}

fn character(value: u64) -> String {
    match u8::try_from(value) {
        Ok(b'\'') => r"'\''".to_owned(),
        Ok(b'\\') => r"'\\'".to_owned(),
        Ok(b'\n') => r"'\n'".to_owned(),
        Ok(b'\r') => r"'\r'".to_owned(),
        Ok(byte @ 32..=126) => format!("'{}'", char::from(byte)),
        _ => format!("'\\x{value:02x}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(text: &str) -> Format {
        Format::parse(text, Format::default()).unwrap()
    }

    #[test]
    fn formats_remember_what_they_leave_out() {
        let last = format("4xg");
        assert_eq!((last.count, last.letter, last.size), (4, 'x', 8));
        let next = Format::parse("d", last).unwrap();
        assert_eq!((next.count, next.letter, next.size), (1, 'd', 8));
        assert_eq!(Format::parse("q", last), Err("invalid char in format: 'q'".to_owned()));
    }

    #[test]
    fn numbers() {
        for (letters, value, shown) in [
            ("x", 0, "0"),
            ("x", -1, "0xffffffffffffffff"),
            ("o", 8, "010"),
            ("d", -1, "-1"),
            ("u", -1, "18446744073709551615"),
            ("c", 65, "'A'"),
            ("c", 300, "'\\x12c'"),
            ("b", 20, "0x14"),
        ] {
            assert_eq!(format(letters).number(value), shown, "{letters} {value}");
        }
    }

    #[test]
    fn lines() {
        let bytes = [0xea, 0x5b, 0xe0, 0, b'A', 0, 0, 0];
        assert_eq!(format("xb").line(0xfff0, &bytes[..2]), "000000000000fff0: 0xea 0x5b\n");
        assert_eq!(
            format("xw").line(0, &bytes),
            "0000000000000000: 0x00e05bea 0x00000041\n"
        );
        assert_eq!(format("dw").line(0, &bytes[..4]), "0000000000000000:   14703594\n");
        assert_eq!(format("oh").line(0, &bytes[..2]), "0000000000000000: 055752\n");
        assert_eq!(format("c").line(0, &bytes[3..5]), "0000000000000000: '\\x00' 'A'\n");
    }
}
