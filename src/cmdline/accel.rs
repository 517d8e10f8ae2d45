//! `-accel`, and what `-machine` says about accelerators.

use serde_json::{Value, json};

use super::builder::Builder;
use super::config::HelpRequest;
use super::error::Error;
use super::machine;
use super::opts::Opts;
use crate::machine::config::AccelConfig;
use crate::qapi::text;

/// `-accel`.
pub(super) fn apply(builder: &mut Builder, opts: &Opts) -> Result<(), Error> {
    let Some(name) = opts
        .get("accel")
        .filter(|name| !name.is_empty() && !text::is_help(name))
    else {
        builder.request_help(HelpRequest::Accels);
        return Ok(());
    };
    if opts.wants_help() {
        builder.request_help(HelpRequest::Accel(name.to_owned()));
        return Ok(());
    }
    builder.config.machine.accels.push(AccelConfig {
        name: name.to_owned(),
        props: opts.pairs().iter().filter(|(key, _)| key != "accel").cloned().collect(),
    });
    Ok(())
}

/// `-enable-kvm`.
pub(super) fn apply_enable_kvm(builder: &mut Builder) -> Result<(), Error> {
    builder.machine.insert("accel".to_owned(), json!("kvm"));
    Ok(())
}

/// Machine properties that are really KVM's.
const KVM_PROPERTIES: [(&str, &str); 2] = [
    ("kernel_irqchip", "kernel-irqchip"),
    ("kvm-shadow-mem", "kvm-shadow-mem"),
];

/// Takes accelerators and their properties out of the machine properties, which then are complete.
pub(super) fn finish(builder: &mut Builder) -> Result<(), Error> {
    let accels = &mut builder.config.machine.accels;
    let list = builder.machine.shift_remove("accel");
    if let Some(list) = list.as_ref().and_then(Value::as_str) {
        if !accels.is_empty() {
            return Err(Error::new(
                "The -accel and \"-machine accel=\" options are incompatible",
            ));
        }
        accels.extend(list.split(':').map(|name| AccelConfig {
            name: name.to_owned(),
            props: Vec::new(),
        }));
    }
    for (machine_name, accel_name) in KVM_PROPERTIES {
        let underscore = builder.machine.shift_remove(machine_name);
        let value = underscore.or_else(|| builder.machine.shift_remove(accel_name));
        let Some(value) = value.as_ref().and_then(Value::as_str) else {
            continue;
        };
        for accel in accels.iter_mut().filter(|accel| accel.name == "kvm") {
            accel.props.insert(0, (accel_name.to_owned(), value.to_owned()));
        }
    }
    builder.config.machine.machine_props = machine::flatten(std::mem::take(&mut builder.machine));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::tests::{config, help, message};

    #[test]
    fn accelerators_in_the_order_to_try() {
        let names = |args: &[&str]| -> Vec<String> {
            let accels = config(args).machine.accels;
            accels.into_iter().map(|accel| accel.name).collect()
        };
        assert_eq!(names(&["-machine", "none,accel=kvm:tcg"]), ["kvm", "tcg"]);
        assert_eq!(names(&["-accel", "kvm", "-accel", "tcg"]), ["kvm", "tcg"]);
        assert_eq!(names(&["-enable-kvm"]), ["kvm"]);
        assert!(names(&[]).is_empty());
        assert_eq!(
            message(&["-accel", "kvm", "-machine", "accel=tcg"]),
            "The -accel and \"-machine accel=\" options are incompatible"
        );
        assert!(matches!(help(&["-accel", "help"]), HelpRequest::Accels));
        assert!(matches!(help(&["-accel", "kvm,help"]), HelpRequest::Accel(name) if name == "kvm"));
    }

    #[test]
    fn properties_of_kvm_may_stand_with_the_machine() {
        let machine = config(&[
            "-machine",
            "q35,kernel_irqchip=split",
            "-accel",
            "kvm,dirty-ring-size=4096",
        ])
        .machine;
        assert!(machine.machine_props.is_empty());
        let props: Vec<_> = machine.accels[0]
            .props
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        assert_eq!(props, ["kernel-irqchip=split", "dirty-ring-size=4096"]);
    }
}
