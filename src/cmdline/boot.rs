//! `-boot`, `-kernel` and what goes with them.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::builder::Builder;
use super::config::HelpRequest;
use super::error::Error;
use super::opts::Opts;
use crate::machine::config::{BootConfig, KernelConfig};
use crate::qapi::text;

/// `-boot`: kept with the machine properties, where `-machine boot.order=` puts the same.
pub(super) fn apply(builder: &mut Builder, map: Map<String, Value>) -> Result<(), Error> {
    super::machine::merge_section(builder, "boot", map)
}

/// `-kernel`: the same as `-machine kernel=`, and so on below.
pub(super) fn apply_kernel(builder: &mut Builder, path: &str) -> Result<(), Error> {
    set(builder, "kernel", path)
}

/// `-initrd`.
pub(super) fn apply_initrd(builder: &mut Builder, path: &str) -> Result<(), Error> {
    set(builder, "initrd", path)
}

/// `-append`.
pub(super) fn apply_append(builder: &mut Builder, text: &str) -> Result<(), Error> {
    set(builder, "append", text)
}

/// `-bios`.
pub(super) fn apply_bios(builder: &mut Builder, path: &str) -> Result<(), Error> {
    set(builder, "firmware", path)
}

fn set(builder: &mut Builder, property: &str, value: &str) -> Result<(), Error> {
    builder.machine.insert(property.to_owned(), json!(value));
    Ok(())
}

/// `-L`.
pub(super) fn apply_data_dir(builder: &mut Builder, path: &str) -> Result<(), Error> {
    let folders = &mut builder.config.machine.data_dirs;
    match text::is_help(path) {
        true => {
            let folders = folders.clone();
            builder.request_help(HelpRequest::DataDirs(folders));
        }
        false => folders.push(PathBuf::from(path)),
    }
    Ok(())
}

/// `-fw_cfg`.
pub(super) fn apply_fw_cfg(builder: &mut Builder, opts: &Opts) -> Result<(), Error> {
    let sources = ["file", "string", "gen_id"];
    let given = sources.into_iter().filter_map(|key| opts.get(key));
    let given = given.filter(|source| !source.is_empty()).count();
    let name = opts.get("name").unwrap_or_default();
    if name.is_empty() || given != 1 {
        return Err(Error::new(
            "name, plus exactly one of file, string and gen_id, are needed",
        ));
    }
    if name.len() > FW_CFG_NAME_MAX {
        return Err(Error::new(format!("name too long (max. {FW_CFG_NAME_MAX} char)")));
    }
    if !name.starts_with("opt/") {
        builder.warn("externally provided fw_cfg item names should be prefixed with \"opt/\"");
    }
    let entry = builder.entry(opts);
    builder.config.machine.fw_cfg.push(entry);
    Ok(())
}

/// Names in fw_cfg's directory hold this many bytes and a final zero (docs/specs/fw_cfg, struct FWCfgFile).
const FW_CFG_NAME_MAX: usize = 55;

/// Takes firmware, kernel and what goes with it out of the machine properties.
pub(super) fn finish_kernel(builder: &mut Builder) -> Result<(), Error> {
    let mut take = |property| match builder.machine.shift_remove(property) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Error::new(format!(
            "Invalid parameter type for '{property}', expected: string"
        ))),
    };
    let (firmware, kernel) = (take("firmware")?, take("kernel")?);
    let (initrd, append) = (take("initrd")?, take("append")?);
    let machine = &mut builder.config.machine;
    machine.bios = firmware.map(PathBuf::from);
    let Some(kernel) = kernel else {
        return match (append, initrd) {
            (Some(_), _) => Err(Error::new("-append only allowed with -kernel option")),
            (None, Some(_)) => Err(Error::new("-initrd only allowed with -kernel option")),
            (None, None) => Ok(()),
        };
    };
    machine.kernel = Some(KernelConfig {
        kernel: PathBuf::from(kernel),
        initrd: initrd.map(PathBuf::from),
        append: append.unwrap_or_default(),
    });
    Ok(())
}

/// Reads the keys of `-boot`.
pub(super) fn complete(map: &Map<String, Value>) -> Result<BootConfig, Error> {
    let mut boot = BootConfig::default();
    for (key, value) in map {
        let text = value.as_str().unwrap_or_default();
        let path = || format!("boot.{key}");
        let boolean = || text::parse_bool(text).ok_or_else(|| Error::expects(&path(), "'on' or 'off'"));
        let integer = || text::parse_int(text).map_err(|_| Error::expects(&path(), "integer"));
        match key.as_str() {
            "order" => boot.order = Some(checked_order(text)?),
            "once" => boot.once = Some(checked_order(text)?),
            "menu" => boot.menu = Some(boolean()?),
            "splash" => boot.splash = Some(text.to_owned()),
            "splash-time" => boot.splash_time = Some(in_range(integer()?, 0, "splash-time")?.unsigned_abs()),
            "reboot-timeout" => boot.reboot_timeout = Some(in_range(integer()?, -1, "reboot timeout")?),
            "strict" => boot.strict = boolean()?,
            _ => return Err(Error::new(format!("Parameter '{}' is unexpected", path()))),
        }
    }
    Ok(boot)
}

/// Milliseconds that firmware reads as 16 bits.
fn in_range(value: i64, least: i64, what: &str) -> Result<i64, Error> {
    match (least..=65535).contains(&value) {
        true => Ok(value),
        false => Err(Error::new(format!(
            "{what} is invalid,it should be a value between {least} and 65535"
        ))),
    }
}

/// A boot order: letters `a` to `p`, each once.
///
/// # Errors
/// Names the letter that is no device or was given twice.
pub(crate) fn checked_order(order: &str) -> Result<String, Error> {
    let mut seen = String::new();
    for letter in order.chars() {
        if !('a'..='p').contains(&letter) {
            return Err(Error::new(format!("Invalid boot device '{letter}'")));
        }
        if seen.contains(letter) {
            return Err(Error::new(format!("Boot device '{letter}' was given twice")));
        }
        seen.push(letter);
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use crate::cmdline::tests::{config, message};

    #[test]
    fn boot_order_and_menu() {
        let boot = config(&["-boot", "menu=on,strict=on", "-boot", "nc,splash-time=3000"])
            .machine
            .boot;
        assert_eq!(boot.order.as_deref(), Some("nc"));
        assert_eq!(
            (boot.menu, boot.strict, boot.splash_time),
            (Some(true), true, Some(3000))
        );
        assert_eq!(message(&["-boot", "order=z"]), "Invalid boot device 'z'");
        assert_eq!(message(&["-boot", "aa"]), "Boot device 'a' was given twice");
        assert_eq!(
            message(&["-boot", "menu=x"]),
            "Parameter 'boot.menu' expects 'on' or 'off'"
        );
        assert_eq!(message(&["-boot", "foo=1"]), "Parameter 'boot.foo' is unexpected");
        assert_eq!(
            message(&["-boot", "reboot-timeout=-2"]),
            "reboot timeout is invalid,it should be a value between -1 and 65535"
        );
    }

    #[test]
    fn kernel_comes_with_initrd_and_append() {
        let kernel = config(&["-append", "a=b,c", "-initrd", "/i", "-kernel", "/k"])
            .machine
            .kernel
            .unwrap();
        assert_eq!((kernel.kernel.to_str(), kernel.append.as_str()), (Some("/k"), "a=b,c"));
        let machine = config(&[
            "-kernel",
            "/a",
            "-M",
            "q35,kernel=/k,append=x,firmware=/f",
            "-bios",
            "/b",
        ])
        .machine;
        let kernel = machine.kernel.unwrap();
        assert_eq!((kernel.kernel.to_str(), kernel.append.as_str()), (Some("/k"), "x"));
        assert_eq!(machine.bios.unwrap().to_str(), Some("/b"));
        assert!(machine.machine_props.is_empty());
        assert_eq!(message(&["-append", "x"]), "-append only allowed with -kernel option");
        assert_eq!(message(&["-initrd", "x"]), "-initrd only allowed with -kernel option");
    }

    #[test]
    fn fw_cfg_takes_one_source() {
        let items = config(&["-fw_cfg", "opt/a,file=,string=b,,c"]).machine.fw_cfg;
        assert_eq!(items[0].parameters["string"], "b,c");
        for wrong in [
            "opt/a",
            "opt/a,string=",
            "opt/a,gen_id=",
            "name=,string=b",
            "opt/a,string=b,file=c",
        ] {
            assert_eq!(
                message(&["-fw_cfg", wrong]),
                format!("-fw_cfg {wrong}: name, plus exactly one of file, string and gen_id, are needed")
            );
        }
    }
}
