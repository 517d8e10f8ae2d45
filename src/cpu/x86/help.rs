//! What `-cpu help` prints.

use super::compat::MachineCompat;
use super::model::Model;
use super::query::Cpus;
use super::tables::{FEATURES, TypeVersion};

/// Columns of the list of features.
const WIDTH: usize = 75;

/// The models, those without features of their own last, and the names of features.
#[must_use]
pub fn help() -> String {
    let compat = MachineCompat::newest();
    let cpus = Cpus::new(compat, None);
    let mut named: Vec<Model> = cpus.models().collect();
    named.retain(|model| matches!(model, Model::Named { .. }));
    named.sort_by_key(Model::name);
    let mut text = "Available CPUs:\n".to_owned();
    for model in named.into_iter().chain([Model::Base, Model::Host, Model::Max]) {
        text += &format!("  {:<20}  {}\n", model.name(), describe(model, compat));
    }
    text += "\nRecognized CPUID flags:\n";
    let mut names: Vec<&str> = FEATURES.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let mut line = String::from(" ");
    for name in names {
        if line.len() + name.len() + 1 >= WIDTH {
            text += &line;
            text.push('\n');
            " ".clone_into(&mut line);
        }
        line.push(' ');
        line += name;
    }
    text += &line;
    text.push('\n');
    text
}

fn describe(model: Model, compat: MachineCompat) -> String {
    match model {
        Model::Base => "base CPU model type with no features enabled".to_owned(),
        Model::Host => "processor with all supported host features".to_owned(),
        Model::Max => "Enables all features supported by the accelerator in the current host".to_owned(),
        Model::Named { model_type, version } => match (model_type.version, model.alias_of(compat)) {
            (TypeVersion::Default, _) => "(alias configured by machine type)".to_owned(),
            (_, Some(of)) => format!("(alias of {of})"),
            (_, None) => version.model_id.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_features_and_aliases_are_listed() {
        let text = help();
        for line in [
            "  Broadwell             (alias configured by machine type)",
            "  Broadwell-IBRS        (alias of Broadwell-v3)",
            "  Broadwell-v1          Intel Core Processor (Broadwell)",
            "  base                  base CPU model type with no features enabled",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}");
        }
        let features = text.split("Recognized CPUID flags:\n").nth(1).unwrap();
        assert!(
            features
                .lines()
                .all(|line| line.len() <= WIDTH && line.starts_with("  "))
        );
        assert!(features.split_whitespace().any(|name| name == "vmx-ept"));
    }
}
