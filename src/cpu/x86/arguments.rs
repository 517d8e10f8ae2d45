//! The text after `-cpu`.

use super::compat::MachineCompat;
use super::error::{Error, Warning};
use super::model::Model;

/// The model that machines have unless told otherwise.
pub const DEFAULT_MODEL: &str = "qemu64";

/// What a command line says about all CPUs of its process, those made only to answer a question included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    pub(super) plus: Vec<String>,
    pub(super) minus: Vec<String>,
    pub(super) globals: Vec<Global>,
    /// How many of them come from other options.
    given_apart: usize,
    warnings: Vec<Warning>,
}

/// A property of all CPUs of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Global {
    pub(super) driver: String,
    pub(super) property: String,
    pub(super) value: String,
}

impl Arguments {
    /// Understands `MODEL,+feature,-feature,property=value,property`. Whether the properties exist is found out when a
    /// CPU is made.
    ///
    /// # Errors
    /// When there is no such model, or a frequency is none.
    pub fn parse(text: &str, compat: MachineCompat) -> Result<(Model, Self), Error> {
        let (name, items) = text.split_once(',').unwrap_or((text, ""));
        let model = Model::find(name, compat).ok_or_else(|| Error::UnknownModel(name.to_owned()))?;
        let mut arguments = Self::default();
        for item in items.split(',').filter(|item| !item.is_empty()) {
            arguments.add(item, model)?;
        }
        if !arguments.warnings.is_empty() {
            arguments.warnings.push(Warning::AmbiguousText);
        }
        Ok((model, arguments))
    }

    /// Adds `-global DRIVER.PROPERTY=VALUE`, over which the text after `-cpu` has the last word.
    pub fn add_global(&mut self, driver: &str, property: &str, value: &str) {
        self.globals
            .insert(self.given_apart, Global::new(driver, property, value));
        self.given_apart += 1;
    }

    /// What is odd about the text.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    fn add(&mut self, item: &str, model: Model) -> Result<(), Error> {
        if let Some(feature) = item.strip_prefix('+') {
            self.plus.push(feature.to_owned());
            return Ok(());
        }
        if let Some(feature) = item.strip_prefix('-') {
            self.minus.push(feature.to_owned());
            return Ok(());
        }
        let (property, value) = item.split_once('=').unwrap_or((item, "on"));
        let mut property = property.replace('_', "-");
        let mut value = value.to_owned();
        for (sign, list) in [('+', &self.plus), ('-', &self.minus)] {
            if list.contains(&property) {
                let (property, value) = (property.clone(), value.clone());
                self.warnings.push(Warning::Ambiguous { sign, property, value });
            }
        }
        if property == "tsc-freq" {
            value = frequency(&value).ok_or(Error::BadNumber(value))?.to_string();
            "tsc-frequency".clone_into(&mut property);
        }
        self.globals.push(Global::new(model.typename(), &property, &value));
        Ok(())
    }
}

impl Global {
    fn new(driver: &str, property: &str, value: &str) -> Self {
        Self {
            driver: driver.to_owned(),
            property: property.to_owned(),
            value: value.to_owned(),
        }
    }
}

/// A frequency in Hz with an optional metric suffix: `2.3G`.
fn frequency(text: &str) -> Option<i64> {
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let power = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        "E" => 6,
        _ => return None,
    };
    let scale = 1000_i64.checked_pow(power)?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.parse::<u32>().ok().map(i64::from)?.checked_mul(scale)?;
    let mut hertz = whole;
    let mut place = scale;
    for digit in fraction.chars() {
        place /= 10;
        hertz = hertz.checked_add(i64::from(digit.to_digit(10)?).checked_mul(place)?)?;
    }
    Some(hertz)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(Model, Arguments), Error> {
        Arguments::parse(text, MachineCompat::newest())
    }

    #[test]
    fn features_and_properties_are_told_apart() {
        let (model, arguments) = parse("Nehalem,+avx,-sse4_1,tsc_adjust=off,check").unwrap();
        assert_eq!(model.name(), "Nehalem");
        assert_eq!(
            (arguments.plus.as_slice(), arguments.minus.as_slice()),
            (["avx".to_owned()].as_slice(), ["sse4_1".to_owned()].as_slice())
        );
        let globals: Vec<(&str, &str)> = arguments
            .globals
            .iter()
            .map(|global| (global.property.as_str(), global.value.as_str()))
            .collect();
        assert_eq!(globals, [("tsc-adjust", "off"), ("check", "on")]);
    }

    #[test]
    fn mixed_forms_are_warned_about() {
        let (_, arguments) = parse("Haswell,+avx,avx=off").unwrap();
        let texts: Vec<String> = arguments.warnings().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "Ambiguous CPU model string. Don't mix both \"+avx\" and \"avx=off\"",
                "Compatibility of ambiguous CPU model strings won't be kept on future QEMU versions",
            ]
        );
    }

    #[test]
    fn frequencies_take_metric_suffixes() {
        assert_eq!(frequency("2.3G"), Some(2_300_000_000));
        assert_eq!(frequency("1000"), Some(1000));
        assert_eq!(frequency("abc"), None);
        assert_eq!(frequency("9999999999E"), None);
        assert_eq!(
            parse("qemu64,tsc-freq=abc").unwrap_err().to_string(),
            "bad numerical value abc"
        );
        assert_eq!(
            parse("nosuch").unwrap_err().to_string(),
            "unable to find CPU model 'nosuch'"
        );
    }
}
