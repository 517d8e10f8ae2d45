//! Compiles `schema/cpu/s390x/*.json` to static arrays. Part of the build script, not of the library.
//!
//! Every name is resolved here, so a misspelt feature, group or block ends the build with the place named.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

/// Words of 64 bits in a feature set; `FeatureSet` in the library has the same number.
const WORDS: usize = 7;

/// Properties of a model that are declared in the library and are no switches.
const READ_ONLY: usize = 4;

type Set = [u64; WORDS];

/// Reads the tables in `schema` and writes the Rust source of the arrays to `out`.
///
/// # Errors
/// A text that names the file and the entry that does not fit.
pub(crate) fn generate(schema: &Path, out: &Path) -> Result<(), String> {
    let tables = Tables::read(schema)?;
    let mut code = String::new();
    tables.write_features(&mut code)?;
    tables.write_models(&mut code)?;
    tables.write_properties_and_types(&mut code)?;
    tables.write_machines(&mut code)?;
    tables.write_dependencies(&mut code)?;
    tables.write_kernel(&mut code)?;
    std::fs::write(out, code).map_err(|error| format!("{}: {error}", out.display()))
}

struct Tables {
    features: Value,
    groups: Value,
    models: Value,
    machines: Value,
    dependencies: Value,
    kernel: Value,
    /// Feature name to its place.
    index: HashMap<String, usize>,
    /// Group name to its place and members.
    group_sets: Vec<(String, Set)>,
    /// Features of the release the tables are for; later ones are known by name only.
    current: Set,
}

impl Tables {
    fn read(schema: &Path) -> Result<Self, String> {
        let load = |name: &str| -> Result<Value, String> {
            let path = schema.join(name);
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
        };
        let mut tables = Self {
            features: load("features.json")?,
            groups: load("groups.json")?,
            models: load("models.json")?,
            machines: load("machines.json")?,
            dependencies: load("dependencies.json")?,
            kernel: load("kernel.json")?,
            index: HashMap::new(),
            group_sets: Vec::new(),
            current: [0; WORDS],
        };
        tables.index_names()?;
        Ok(tables)
    }

    fn index_names(&mut self) -> Result<(), String> {
        for (place, group) in list(&self.groups, "groups")?.iter().enumerate() {
            let name = text(group, "name")?;
            if self.group_sets.iter().any(|(other, _)| other == name) {
                return Err(format!("groups.json: group {place} '{name}' is there twice"));
            }
            self.group_sets.push((name.to_owned(), [0; WORDS]));
        }
        for (place, feature) in list(&self.features, "features")?.iter().enumerate() {
            let name = text(feature, "name")?;
            if place >= WORDS * 64 {
                return Err(format!("features.json: no room for '{name}' in {WORDS} words"));
            }
            if self.index.insert(name.to_owned(), place).is_some() {
                return Err(format!("features.json: '{name}' is there twice"));
            }
            if feature.get("since").is_none() {
                insert(&mut self.current, place);
            }
            let Some(group) = feature.get("group").and_then(Value::as_str) else {
                continue;
            };
            let (_, members) = self
                .group_sets
                .iter_mut()
                .find(|(other, _)| other == group)
                .ok_or_else(|| format!("features.json: '{name}' is in unknown group '{group}'"))?;
            insert(members, place);
        }
        Ok(())
    }

    fn feature(&self, name: &str) -> Result<usize, String> {
        self.index
            .get(name)
            .copied()
            .ok_or_else(|| format!("unknown feature '{name}'"))
    }

    /// The set of a list of features and `@group`s.
    fn set(&self, names: Option<&Value>) -> Result<Set, String> {
        let mut set = [0; WORDS];
        let Some(names) = names.and_then(Value::as_array) else {
            return Ok(set);
        };
        for name in names {
            let name = name.as_str().ok_or("a feature name is not a string")?;
            let Some(group) = name.strip_prefix('@') else {
                insert(&mut set, self.feature(name)?);
                continue;
            };
            let (_, members) = self
                .group_sets
                .iter()
                .find(|(other, _)| other == group)
                .ok_or_else(|| format!("unknown group '{group}'"))?;
            set.iter_mut().zip(members).for_each(|(word, more)| *word |= more);
        }
        Ok(set)
    }

    fn write_features(&self, code: &mut String) -> Result<(), String> {
        let blocks = list(&self.features, "blocks")?;
        open(
            code,
            "Blocks of function codes, in the order of the payload.",
            "BLOCKS",
            "Block",
            blocks.len(),
        );
        for block in blocks {
            let unlocked = match block.get("unlocked-by").and_then(Value::as_str) {
                Some(name) => format!("Some(FeatureId({}))", self.feature(name)?),
                None => "None".to_owned(),
            };
            let (name, offset, bytes) = (text(block, "name")?, number(block, "offset")?, number(block, "bytes")?);
            line(
                code,
                format_args!("Block {{ name: {name:?}, offset: {offset}, bytes: {bytes}, unlocked_by: {unlocked} }},"),
            );
        }
        close(code);

        let features = list(&self.features, "features")?;
        open(
            code,
            "Every feature, in the order that feature lists have.",
            "FEATURES",
            "Feature",
            features.len(),
        );
        for feature in features {
            let name = text(feature, "name")?;
            let (kind, description) = self
                .kind(feature, blocks)
                .map_err(|error| format!("features.json: '{name}': {error}"))?;
            let group = match feature.get("group").and_then(Value::as_str) {
                Some(group) => format!(
                    "Some({})",
                    self.group_sets
                        .iter()
                        .position(|(other, _)| other == group)
                        .unwrap_or(0)
                ),
                None => "None".to_owned(),
            };
            let origin = origin(feature).map_err(|error| format!("features.json: '{name}': {error}"))?;
            let deprecated = feature.get("deprecated").is_some();
            line(
                code,
                format_args!(
                    "Feature {{ name: {name:?}, kind: {kind}, group: {group}, origin: {origin}, deprecated: {deprecated}, \
                     description: {description:?} }},"
                ),
            );
        }
        close(code);
        constant(
            code,
            "Features this release knows; the others have a name and no effect.",
            "CURRENT",
            &self.current,
        );

        open(
            code,
            "Groups, in the order they are folded.",
            "GROUPS",
            "Group",
            self.group_sets.len(),
        );
        for ((name, members), group) in self.group_sets.iter().zip(list(&self.groups, "groups")?) {
            let description = text(group, "text")?;
            line(
                code,
                format_args!(
                    "Group {{ name: {name:?}, members: FeatureSet({members:?}), description: {description:?} }},"
                ),
            );
        }
        close(code);
        Ok(())
    }

    /// Where a feature is indicated, as Rust source, and what it is.
    fn kind(&self, feature: &Value, blocks: &[Value]) -> Result<(String, String), String> {
        if let Some(block) = feature.get("block").and_then(Value::as_str) {
            let place = blocks
                .iter()
                .position(|other| other.get("name").and_then(Value::as_str) == Some(block))
                .ok_or_else(|| format!("unknown block '{block}'"))?;
            let code = number(feature, "code")?;
            let bytes = number(&blocks[place], "bytes")?;
            if code >= bytes * 8 {
                return Err(format!(
                    "function code {code} is beyond the {bytes} bytes of block '{block}'"
                ));
            }
            let description = format!("{} function code {code}", block.to_uppercase());
            return Ok((
                format!("Indicator::Function {{ block: {place}, code: {code} }}"),
                description,
            ));
        }
        let description = text(feature, "text")?.to_owned();
        let kind = if feature.get("facility").is_some() {
            format!("Indicator::Facility({})", number(feature, "facility")?)
        } else if let Some(place) = feature.get("sclp") {
            let (byte, bit) = pair(place)?;
            format!("Indicator::Sclp {{ byte: {byte}, bit: {bit} }}")
        } else if let Some(place) = feature.get("sclp-cpu") {
            let (byte, bit) = pair(place)?;
            format!("Indicator::SclpCpu {{ byte: {byte}, bit: {bit} }}")
        } else if feature.get("uv").is_some() {
            format!("Indicator::Ultravisor({})", number(feature, "uv")?)
        } else {
            "Indicator::None".to_owned()
        };
        Ok((kind, description))
    }

    fn write_models(&self, code: &mut String) -> Result<(), String> {
        let sets = self.model_sets()?;
        let models = list(&self.models, "models")?;
        open(
            code,
            "Models, in the order they are searched.",
            "DEFINITIONS",
            "Definition",
            models.len(),
        );
        for model in models {
            let name = text(model, "name")?;
            let (generation, ga) = (number(model, "gen")?, number(model, "ga")?);
            let (_, [base, default, full]) = sets
                .iter()
                .find(|(key, _)| *key == (generation, ga))
                .ok_or_else(|| format!("models.json: '{name}': no sets for generation {generation} GA {ga}"))?;
            let also: Vec<&str> = match model.get("also").and_then(Value::as_array) {
                Some(names) => names.iter().filter_map(Value::as_str).collect(),
                None => Vec::new(),
            };
            let (machine_type, own_ga) = (hex(model, "type")?, number(model, "own-ga")?);
            let (seed, ibc, hmfai) = (text(model, "seed")?, hex(model, "ibc")?, hex(model, "hmfai")?);
            let bits = number(model, "bits")?;
            line(
                code,
                format_args!(
                    "Definition {{ name: {name:?}, base_name: \"{name}-base\", typename: \"{name}-s390x-cpu\", \
                     base_typename: \"{name}-base-s390x-cpu\", seed_name: {seed:?}, other_names: &{also:?}, \
                     machine_type: {machine_type:#x}, generation: {generation}, ga: {ga}, own_ga: {own_ga}, ibc: {ibc:#x}, \
                     host_addr_bits: {bits}, hmfai: {hmfai:#x}, base: FeatureSet({base:?}), default: FeatureSet({default:?}), \
                     full: FeatureSet({full:?}) }},"
                ),
            );
        }
        close(code);
        Ok(())
    }

    /// Base, default and full set for each generation and GA; the file has only what each adds and drops.
    #[expect(clippy::type_complexity, reason = "a name for this pair would be used once")]
    fn model_sets(&self) -> Result<Vec<((u64, u64), [Set; 3])>, String> {
        let mut current = [[0; WORDS]; 3];
        let mut sets = Vec::new();
        for entry in list(&self.models, "sets")? {
            let key = (number(entry, "gen")?, number(entry, "ga")?);
            for (set, what) in current.iter_mut().zip(["base", "default", "full"]) {
                let place = |error| format!("models.json: {what} of {key:?}: {error}");
                let added = self.set(entry.get(what)).map_err(place)?;
                let dropped = self.set(entry.get(format!("{what}-drop"))).map_err(place)?;
                for word in 0..WORDS {
                    set[word] = (set[word] | added[word]) & !dropped[word];
                }
            }
            let known = current.map(|mut set| {
                set.iter_mut()
                    .zip(self.current)
                    .for_each(|(word, known)| *word &= known);
                set
            });
            sets.push((key, known));
        }
        Ok(sets)
    }

    fn write_properties_and_types(&self, code: &mut String) -> Result<(), String> {
        let names = self.features_of_release()?;
        let groups = list(&self.groups, "groups")?;
        let count = READ_ONLY + names.len() + groups.len();
        open(
            code,
            "Properties of every model: what describes it, and switches.",
            "MODEL_PROPERTIES",
            "PropertyInfo",
            count,
        );
        for place in 0..READ_ONLY {
            line(code, format_args!("READ_ONLY[{place}],"));
        }
        let mut switch = |name: &str, description: &str| {
            line(
                code,
                format_args!("PropertyInfo::new({name:?}, PropertyKind::Bool, Default::None, {description:?}),"),
            );
        };
        for (name, description) in &names {
            switch(name, description);
        }
        for group in groups {
            switch(text(group, "name")?, text(group, "text")?);
        }
        close(code);

        let models = list(&self.models, "models")?;
        open(
            code,
            "A type for each model and each of its static variants.",
            "MODEL_TYPES",
            "TypeInfo",
            models.len() * 2,
        );
        for model in models {
            let name = text(model, "name")?;
            line(
                code,
                format_args!("model_type(\"{name}-s390x-cpu\"), model_type(\"{name}-base-s390x-cpu\"),"),
            );
        }
        close(code);
        Ok(())
    }

    fn features_of_release(&self) -> Result<Vec<(String, String)>, String> {
        let blocks = list(&self.features, "blocks")?;
        list(&self.features, "features")?
            .iter()
            .filter(|feature| feature.get("since").is_none())
            .map(|feature| Ok((text(feature, "name")?.to_owned(), self.kind(feature, blocks)?.1)))
            .collect()
    }

    fn write_machines(&self, code: &mut String) -> Result<(), String> {
        let lists = list(&self.machines, "emulated")?;
        let model = |value: &Value| -> Result<String, String> {
            let name = text(value, "list")?;
            let features = lists
                .iter()
                .find(|other| other.get("name").and_then(Value::as_str) == Some(name))
                .ok_or_else(|| format!("machines.json: unknown list '{name}'"))?;
            let set = self.set(features.get("features"))?;
            let (machine_type, generation, ga) = (hex(value, "type")?, number(value, "gen")?, number(value, "ga")?);
            Ok(format!(
                "EmulatedModel {{ machine_type: {machine_type:#x}, generation: {generation}, ga: {ga}, features: FeatureSet({set:?}) }}"
            ))
        };
        let newest = model(self.machines.get("newest").ok_or("machines.json: no 'newest'")?)?;
        line(
            code,
            format_args!(
                "/// The `qemu` model of the newest machine.\npub(super) static NEWEST_QEMU: EmulatedModel = {newest};"
            ),
        );
        let machines = list(&self.machines, "machines")?;
        open(
            code,
            "Machine versions, newest first; each has what it takes away from the one before.",
            "MACHINES",
            "MachineVersion",
            machines.len(),
        );
        for machine in machines {
            let version = text(machine, "version")?;
            let mut off = String::new();
            for entry in machine
                .get("off")
                .and_then(Value::as_array)
                .map_or(&[][..], Vec::as_slice)
            {
                let set = self
                    .set(entry.get("features"))
                    .map_err(|error| format!("machines.json: {version}: {error}"))?;
                let (generation, ga) = (number(entry, "gen")?, number(entry, "ga")?);
                let _ = write!(
                    off,
                    "DefaultOff {{ generation: {generation}, ga: {ga}, features: FeatureSet({set:?}) }},"
                );
            }
            let qemu = match machine.get("qemu") {
                Some(qemu) => format!("Some({})", model(qemu)?),
                None => "None".to_owned(),
            };
            line(
                code,
                format_args!("MachineVersion {{ version: {version:?}, off: &[{off}], qemu: {qemu} }},"),
            );
        }
        close(code);
        Ok(())
    }

    fn write_dependencies(&self, code: &mut String) -> Result<(), String> {
        let pairs = list(&self.dependencies, "needs")?;
        open(
            code,
            "The first feature needs the second.",
            "NEEDS",
            "(FeatureId, FeatureId)",
            pairs.len(),
        );
        for needs in pairs {
            let [Some(first), Some(second)] = [0, 1].map(|place| needs.get(place).and_then(Value::as_str)) else {
                return Err(format!("dependencies.json: {needs} is not a pair of names"));
            };
            line(
                code,
                format_args!(
                    "(FeatureId({}), FeatureId({})),",
                    self.feature(first)?,
                    self.feature(second)?
                ),
            );
        }
        close(code);
        let ignored = self.set(self.dependencies.get("ignored-for-base"))?;
        constant(
            code,
            "Base features that may be off while a model still counts as supported.",
            "IGNORED_FOR_BASE",
            &ignored,
        );
        Ok(())
    }

    fn write_kernel(&self, code: &mut String) -> Result<(), String> {
        for (key, name, what) in [
            (
                "kernel-list",
                "KERNEL_LIST",
                "Facilities that KVM passes on from the host.",
            ),
            (
                "model-only",
                "MODEL_ONLY",
                "Facilities that KVM passes on to guests with a chosen CPU model only.",
            ),
            (
                "kernel-always",
                "KERNEL_ALWAYS",
                "Facilities that KVM emulates on every host.",
            ),
            (
                "with-zarch",
                "WITH_ZARCH",
                "Facilities without a feature of their own, on in every 64-bit model.",
            ),
            (
                "userspace",
                "USERSPACE",
                "Facilities whose instructions are intercepted and emulated outside the kernel.",
            ),
        ] {
            let numbers = numbers(&self.kernel, key)?;
            line(
                code,
                format_args!(
                    "/// {what}\npub(super) static {name}: [u16; {}] = {numbers:?};",
                    numbers.len()
                ),
            );
        }
        Ok(())
    }
}

/// Who offers a feature on a KVM host, as Rust source.
fn origin(feature: &Value) -> Result<String, String> {
    if feature.get("feat").is_some() {
        return Ok(format!("Origin::Feat({})", number(feature, "feat")?));
    }
    if feature.get("block").is_some() {
        return Ok("Origin::Subfunction".to_owned());
    }
    if feature.get("uv").is_some() {
        return Ok("Origin::Ultravisor".to_owned());
    }
    let from = text(feature, "from")?;
    if let Some(capability) = from.strip_prefix("cap ") {
        return Ok(format!("Origin::Capability(Capability::{})", variant(capability)));
    }
    Ok(format!("Origin::{}", variant(from)))
}

/// `VECTOR_REGISTERS` or `kernel-list` as the name of a variant.
fn variant(name: &str) -> String {
    name.split(['_', '-'])
        .map(|part| {
            let (first, rest) = part.split_at(part.len().min(1));
            first.to_uppercase() + &rest.to_lowercase()
        })
        .collect()
}

fn insert(set: &mut Set, place: usize) {
    set[place / 64] |= 1 << (place % 64);
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a [Value], String> {
    let array = value.get(key).and_then(Value::as_array);
    array.map(Vec::as_slice).ok_or_else(|| format!("no list '{key}'"))
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    value
        .get(key)
        .and_then(Value::as_str)
        .ok_or_else(|| format!("no text '{key}' in {value}"))
}

fn number(value: &Value, key: &str) -> Result<u64, String> {
    value
        .get(key)
        .and_then(Value::as_u64)
        .ok_or_else(|| format!("no number '{key}' in {value}"))
}

fn numbers(value: &Value, key: &str) -> Result<Vec<u64>, String> {
    list(value, key)?
        .iter()
        .map(|number| {
            number
                .as_u64()
                .ok_or_else(|| format!("{number} in '{key}' is not a number"))
        })
        .collect()
}

fn hex(value: &Value, key: &str) -> Result<u64, String> {
    let digits = text(value, key)?;
    u64::from_str_radix(digits.trim_start_matches("0x"), 16).map_err(|error| format!("'{key}' {digits}: {error}"))
}

fn pair(value: &Value) -> Result<(u64, u64), String> {
    match [0, 1].map(|place| value.get(place).and_then(Value::as_u64)) {
        [Some(first), Some(second)] => Ok((first, second)),
        _ => Err(format!("{value} is not a pair of numbers")),
    }
}

fn open(code: &mut String, what: &str, name: &str, kind: &str, count: usize) {
    line(
        code,
        format_args!("/// {what}\npub(super) static {name}: [{kind}; {count}] = ["),
    );
}

fn close(code: &mut String) {
    code.push_str("];\n");
}

fn constant(code: &mut String, what: &str, name: &str, set: &Set) {
    line(
        code,
        format_args!("/// {what}\npub(super) const {name}: FeatureSet = FeatureSet({set:?});"),
    );
}

fn line(code: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = code.write_fmt(arguments);
    code.push('\n');
}
