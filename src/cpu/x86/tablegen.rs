//! Compiles `schema/cpu/x86/*.json` to static arrays. Part of the build script, not of the library.
//!
//! Every name is resolved here, and versions of models are spelt out, so a misspelt feature, property or cache table
//! ends the build with the place named.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value};

/// Properties of a CPU that are neither features nor plain values, but may stand in the tables.
const SPECIAL: [(&str, &str); 7] = [
    ("family", "Family"),
    ("model", "Model"),
    ("stepping", "Stepping"),
    ("vendor", "Vendor"),
    ("model-id", "ModelId"),
    ("tsc-frequency", "TscFrequency"),
    ("start-powered-off", "StartPoweredOff"),
];

/// Reads the tables in `schema` and writes the Rust source of the arrays to `out`.
///
/// # Errors
/// A text that names the file and the entry that does not fit.
pub(crate) fn generate(schema: &Path, out: &Path) -> Result<(), String> {
    let tables = Tables::read(schema)?;
    let mut code = String::new();
    tables.write_words(&mut code)?;
    tables.write_scalars(&mut code)?;
    tables.write_properties(&mut code);
    tables.write_dependencies(&mut code)?;
    tables.write_caches(&mut code)?;
    tables.write_models(&mut code)?;
    tables.write_machines(&mut code)?;
    tables.write_hyperv(&mut code)?;
    std::fs::write(out, code).map_err(|error| format!("{}: {error}", out.display()))
}

#[derive(Clone, Copy)]
struct Bits {
    word: usize,
    mask: u64,
}

struct Tables {
    files: HashMap<&'static str, Value>,
    words: HashMap<String, usize>,
    /// Features in the order of the words.
    features: Vec<(String, Bits)>,
    scalars: HashMap<String, usize>,
    caches: HashMap<String, usize>,
}

impl Tables {
    fn read(schema: &Path) -> Result<Self, String> {
        let mut files = HashMap::new();
        for name in [
            "words",
            "aliases",
            "dependencies",
            "properties",
            "caches",
            "descriptors",
            "models",
            "machines",
            "xsave",
            "kvm",
            "hyperv",
        ] {
            let path = schema.join(format!("{name}.json"));
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let value: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            files.insert(name, value);
        }
        let mut tables = Self {
            files,
            words: HashMap::new(),
            features: Vec::new(),
            scalars: HashMap::new(),
            caches: HashMap::new(),
        };
        tables.index()?;
        Ok(tables)
    }

    fn index(&mut self) -> Result<(), String> {
        let mut features: Vec<(String, Bits)> = Vec::new();
        for (place, word) in self.list("words")?.iter().enumerate() {
            for (bit, name) in text(word, "features")?.split_whitespace().enumerate() {
                let mask = 1 << bit;
                match features.iter_mut().find(|(known, _)| known == name) {
                    _ if name == "-" => {}
                    Some((_, bits)) if bits.word == place => bits.mask |= mask,
                    Some(_) => return Err(format!("words.json: '{name}' is in two words")),
                    None => features.push((name.to_owned(), Bits { word: place, mask })),
                }
            }
        }
        let place = |list: &[Value]| -> Result<HashMap<String, usize>, String> {
            let named = list.iter().enumerate();
            named
                .map(|(place, entry)| Ok((text(entry, "name")?.to_owned(), place)))
                .collect()
        };
        self.words = place(self.list("words")?)?;
        self.scalars = place(self.list("properties")?)?;
        self.caches = self.map("caches")?.keys().cloned().zip(0..).collect();
        self.features = features;
        Ok(())
    }

    fn list(&self, file: &str) -> Result<&[Value], String> {
        let list = self.files.get(file).and_then(Value::as_array);
        list.map(Vec::as_slice)
            .ok_or_else(|| format!("{file}.json: not a list"))
    }

    fn map(&self, file: &str) -> Result<&Map<String, Value>, String> {
        let map = self.files.get(file).and_then(Value::as_object);
        map.ok_or_else(|| format!("{file}.json: not an object"))
    }

    fn feature(&self, name: &str) -> Result<Bits, String> {
        let found = self.features.iter().find(|(known, _)| known == name);
        found
            .map(|(_, bits)| *bits)
            .ok_or_else(|| format!("no feature '{name}'"))
    }

    fn word(&self, name: &str) -> Result<usize, String> {
        self.words.get(name).copied().ok_or_else(|| format!("no word '{name}'"))
    }

    fn scalar(&self, name: &str) -> Result<usize, String> {
        self.scalars
            .get(name)
            .copied()
            .ok_or_else(|| format!("no property '{name}'"))
    }

    /// The Rust expression of the property called `name`.
    fn property(&self, name: &str) -> Result<String, String> {
        if let Some((_, variant)) = SPECIAL.iter().find(|(known, _)| *known == name) {
            return Ok(format!("Property::{variant}"));
        }
        if let Ok(bits) = self.feature(name) {
            return Ok(format!("Property::Feature({})", feature(bits)));
        }
        Ok(format!("Property::Scalar(ScalarId({}))", self.scalar(name)?))
    }

    fn write_words(&self, code: &mut String) -> Result<(), String> {
        let words = self.list("words")?;
        let count = words.len();
        emit(
            code,
            format_args!("/// Feature words there are.\npub const WORD_COUNT: usize = {count};"),
        );
        emit(
            code,
            format_args!("/// The feature words.\npub mod word {{\nuse super::Word;"),
        );
        for (place, entry) in words.iter().enumerate() {
            let name = text(entry, "name")?;
            emit(
                code,
                format_args!(
                    "/// {}.\npub const {name}: Word = Word({place});",
                    location_text(entry)?
                ),
            );
        }
        emit(
            code,
            format_args!("}}\n/// The feature words, in the order of `unavailable-features`."),
        );
        emit(code, format_args!("pub static WORDS: [WordInfo; WORD_COUNT] = ["));
        for entry in words {
            let names: Vec<&str> = text(entry, "features")?.split_whitespace().collect();
            let names: Vec<&str> = names
                .into_iter()
                .map(|name| if name == "-" { "" } else { name })
                .collect();
            emit(
                code,
                format_args!(
                    "WordInfo {{ location: {}, unmigratable: {}, migratable: {}, not_automatic: {}, names: &{names:?} }},",
                    location(entry)?,
                    optional_number(entry, "unmigratable")?,
                    optional_number(entry, "migratable")?,
                    optional_number(entry, "not-automatic")?,
                ),
            );
        }
        emit(
            code,
            format_args!("];\n/// The features that have names.\npub mod feature {{\nuse super::{{Feature, Word}};"),
        );
        for (name, bits) in &self.features {
            emit(
                code,
                format_args!(
                    "/// `{name}`.\npub const {}: Feature = {};",
                    constant(name),
                    feature(*bits)
                ),
            );
        }
        emit(
            code,
            format_args!("}}\n/// The features that have names, in the order of the words."),
        );
        emit(
            code,
            format_args!("pub static FEATURES: [(&str, Feature); {}] = [", self.features.len()),
        );
        for (name, bits) in &self.features {
            emit(code, format_args!("({name:?}, {}),", feature(*bits)));
        }
        emit(code, format_args!("];"));
        self.write_xsave(code)
    }

    fn write_xsave(&self, code: &mut String) -> Result<(), String> {
        let areas = self.list("xsave")?;
        emit(
            code,
            format_args!(
                "/// State components of XSAVE.\npub static XSAVE_AREAS: [XsaveArea; {}] = [",
                areas.len()
            ),
        );
        for area in areas {
            let supervisor = area.get("supervisor").is_some();
            emit(
                code,
                format_args!(
                    "XsaveArea {{ component: {}, size: {}, feature: {}, supervisor: {supervisor} }},",
                    number(area, "component")?,
                    number(area, "size")?,
                    feature(self.feature(text(area, "feature")?)?),
                ),
            );
        }
        emit(code, format_args!("];"));
        Ok(())
    }

    fn write_scalars(&self, code: &mut String) -> Result<(), String> {
        let scalars = self.list("properties")?;
        let count = scalars.len();
        emit(
            code,
            format_args!("/// Plain properties there are.\npub const SCALAR_COUNT: usize = {count};"),
        );
        emit(
            code,
            format_args!("/// The plain properties.\npub mod scalar {{\nuse super::ScalarId;"),
        );
        for (place, entry) in scalars.iter().enumerate() {
            let name = text(entry, "name")?;
            emit(
                code,
                format_args!(
                    "/// `{name}`.\npub const {}: ScalarId = ScalarId({place});",
                    constant(name)
                ),
            );
        }
        emit(
            code,
            format_args!("}}\n/// The plain properties, by id.\npub static SCALARS: [ScalarInfo; SCALAR_COUNT] = ["),
        );
        for entry in scalars {
            let kind = match text(entry, "type")? {
                "bool" => "Bool",
                "uint8" => "Uint8",
                "uint16" => "Uint16",
                "uint32" => "Uint32",
                "uint64" => "Uint64",
                "int32" => "Int32",
                "on_off_auto" => "OnOffAuto",
                "str" => "Str",
                other => return Err(format!("properties.json: type '{other}'")),
            };
            let shown = entry.get("default").is_some_and(|default| default.as_str() != Some(""));
            emit(
                code,
                format_args!(
                    "ScalarInfo {{ name: {:?}, kind: ScalarKind::{kind}, initial: {}, shows_default: {shown}, mask: {}, only_max: {} }},",
                    text(entry, "name")?,
                    initial(entry)?,
                    optional_number(entry, "mask")?,
                    entry.get("only").is_some(),
                ),
            );
        }
        emit(code, format_args!("];"));
        Ok(())
    }

    fn write_properties(&self, code: &mut String) {
        let mut all: BTreeMap<&str, String> = BTreeMap::new();
        let names = self.features.iter().map(|(name, _)| name).chain(self.scalars.keys());
        for name in names.map(String::as_str).chain(SPECIAL.iter().map(|(name, _)| *name)) {
            if let Ok(property) = self.property(name) {
                all.insert(name, property);
            }
        }
        let aliases: Vec<(&str, &str)> = self
            .map("aliases")
            .into_iter()
            .flatten()
            .filter_map(|(alias, name)| Some((alias.as_str(), name.as_str()?)))
            .collect();
        for (alias, name) in &aliases {
            if let Ok(property) = self.property(name) {
                all.insert(alias, property);
            }
        }
        emit(
            code,
            format_args!("/// Properties that can be set, aliases included, by name."),
        );
        emit(
            code,
            format_args!("pub static PROPERTIES: [(&str, Property); {}] = [", all.len()),
        );
        for (name, property) in &all {
            emit(code, format_args!("({name:?}, {property}),"));
        }
        emit(
            code,
            format_args!("];\n/// Other names of properties, with the proper ones."),
        );
        emit(
            code,
            format_args!("pub static ALIASES: [(&str, &str); {}] = {aliases:?};", aliases.len()),
        );
    }

    fn write_dependencies(&self, code: &mut String) -> Result<(), String> {
        let dependencies = self.list("dependencies")?;
        emit(
            code,
            format_args!("/// Features that need others, in the order in which they are checked."),
        );
        emit(
            code,
            format_args!("pub static DEPENDENCIES: [Dependency; {}] = [", dependencies.len()),
        );
        for entry in dependencies {
            let side = |key: &str| -> Result<String, String> {
                let pair = entry
                    .get(key)
                    .and_then(Value::as_array)
                    .ok_or("dependencies.json: not a pair")?;
                let [word, mask] = pair.as_slice() else {
                    return Err("dependencies.json: not a pair".to_owned());
                };
                let mask = if mask == "all" { u64::MAX } else { parse(mask)? };
                Ok(feature(Bits {
                    word: self.word(word.as_str().unwrap_or_default())?,
                    mask,
                }))
            };
            emit(
                code,
                format_args!(
                    "Dependency {{ needs: {}, of: {} }},",
                    side("needs")?,
                    side("if-none-clear")?
                ),
            );
        }
        emit(code, format_args!("];"));
        Ok(())
    }

    fn write_caches(&self, code: &mut String) -> Result<(), String> {
        let caches = self.map("caches")?;
        emit(
            code,
            format_args!(
                "/// Cache tables.\npub static CACHES: [(&str, Caches); {}] = [",
                caches.len()
            ),
        );
        for (name, table) in caches {
            emit(code, format_args!("({name:?}, Caches {{"));
            for (key, level, kind) in [
                ("l1d", 1, "Data"),
                ("l1i", 1, "Instruction"),
                ("l2", 2, "Unified"),
                ("l3", 3, "Unified"),
            ] {
                let cache = table
                    .get(key)
                    .ok_or_else(|| format!("caches.json: {name} has no {key}"))?;
                let flags: Vec<&str> = text(cache, "flags")?.split_whitespace().collect();
                let share = text(cache, "share")?;
                let share = format!("{}{}", share[..1].to_uppercase(), &share[1..]);
                emit(
                    code,
                    format_args!(
                        "{key}: Cache {{ kind: CacheKind::{kind}, level: {level}, ways: {}, line: {}, partitions: {}, sets: {}, \
                         lines_per_tag: {}, self_init: {}, no_invd_sharing: {}, inclusive: {}, complex_indexing: {}, \
                         share: Level::{share} }},",
                        number(cache, "ways")?,
                        number(cache, "line")?,
                        number(cache, "partitions")?,
                        number(cache, "sets")?,
                        number(cache, "lines-per-tag")?,
                        flags.contains(&"self-init"),
                        flags.contains(&"no-invd-sharing"),
                        flags.contains(&"inclusive"),
                        flags.contains(&"complex-indexing"),
                    ),
                );
            }
            emit(code, format_args!("}}),"));
        }
        emit(code, format_args!("];\n/// Cache descriptors of leaf 2."));
        let descriptors = self.list("descriptors")?;
        emit(
            code,
            format_args!("pub static DESCRIPTORS: [Descriptor; {}] = [", descriptors.len()),
        );
        for entry in descriptors {
            let kind = match text(entry, "type")? {
                "data" => "Data",
                "instruction" => "Instruction",
                _ => "Unified",
            };
            emit(
                code,
                format_args!(
                    "Descriptor {{ code: {}, level: {}, kind: CacheKind::{kind}, size: {}, ways: {}, line: {} }},",
                    number(entry, "code")?,
                    number(entry, "level")?,
                    number(entry, "size")?,
                    number(entry, "ways")?,
                    number(entry, "line")?,
                ),
            );
        }
        emit(code, format_args!("];"));
        Ok(())
    }

    fn write_models(&self, code: &mut String) -> Result<(), String> {
        let models = self.list("models")?;
        let mut types: Vec<(String, usize, String)> = Vec::new();
        emit(
            code,
            format_args!(
                "/// Named models.\npub static MODELS: [Definition; {}] = [",
                models.len()
            ),
        );
        for (place, model) in models.iter().enumerate() {
            let name = text(model, "name")?;
            let versions = model
                .get("versions")
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default();
            emit(
                code,
                format_args!(
                    "Definition {{ name: {name:?}, level: {}, xlevel: {}, vendor: {:?}, family: {}, model: {}, versions: &[",
                    number(model, "level")?,
                    number(model, "xlevel")?,
                    text(model, "vendor")?,
                    number(model, "family")?,
                    number(model, "model")?,
                ),
            );
            let mut state = VersionState::of(self, model)?;
            types.push((name.to_owned(), place, "TypeVersion::Default".to_owned()));
            for (version, entry) in (1..).zip(versions) {
                state
                    .advance(self, entry)
                    .map_err(|error| format!("models.json: {name}-v{version}: {error}"))?;
                types.push((
                    format!("{name}-v{version}"),
                    place,
                    format!("TypeVersion::Fixed({version})"),
                ));
                if let Some(alias) = entry.get("alias").and_then(Value::as_str) {
                    types.push((alias.to_owned(), place, format!("TypeVersion::Alias({version})")));
                }
                let note = entry.get("note").and_then(Value::as_str);
                state.write(name, version, note, code);
            }
            emit(code, format_args!("] }},"));
        }
        types.sort_by(|a, b| b.0.cmp(&a.0));
        emit(
            code,
            format_args!("];\n/// Names of types of named models, backwards, as `query-cpu-definitions` lists them."),
        );
        emit(code, format_args!("pub static TYPES: [ModelType; {}] = [", types.len()));
        for (name, place, version) in &types {
            emit(
                code,
                format_args!(
                    "ModelType {{ name: {name:?}, typename: \"{name}-x86_64-cpu\", definition: {place}, version: {version} }},"
                ),
            );
        }
        emit(code, format_args!("];"));
        Ok(())
    }

    fn write_machines(&self, code: &mut String) -> Result<(), String> {
        let machines = self.list("machines")?;
        emit(
            code,
            format_args!("/// What machine types of old change, newest first."),
        );
        emit(
            code,
            format_args!("pub static MACHINES: [MachineRelease; {}] = [", machines.len()),
        );
        for machine in machines {
            let version = text(machine, "up-to")?;
            let (major, minor) = version.split_once('.').ok_or("machines.json: no version")?;
            emit(
                code,
                format_args!("MachineRelease {{ up_to: ({major}, {minor}), settings: &["),
            );
            for entry in machine
                .get("properties")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let part = |place: usize| entry.get(place).and_then(Value::as_str).unwrap_or_default();
                let property = self
                    .property(part(1))
                    .map_err(|error| format!("machines.json: {version}: {error}"))?;
                let value = match part(2) {
                    "on" | "true" => 1,
                    "off" | "false" => 0,
                    other => parse(&Value::String(other.to_owned()))?,
                };
                emit(
                    code,
                    format_args!(
                        "Setting {{ driver: {:?}, property: {property}, value: {value} }},",
                        part(0)
                    ),
                );
            }
            emit(code, format_args!("] }},"));
        }
        emit(code, format_args!("];\n/// What KVM changes in named models."));
        let defaults = self.map("kvm")?;
        emit(
            code,
            format_args!("pub static KVM_DEFAULTS: [(Feature, bool); {}] = [", defaults.len()),
        );
        for (name, value) in defaults {
            emit(
                code,
                format_args!("({}, {}),", feature(self.feature(name)?), value == "on"),
            );
        }
        emit(code, format_args!("];"));
        Ok(())
    }

    fn write_hyperv(&self, code: &mut String) -> Result<(), String> {
        let features = self.list("hyperv")?;
        emit(
            code,
            format_args!(
                "/// Hyper-V enlightenments.\npub static HYPERV: [HypervFeature; {}] = [",
                features.len()
            ),
        );
        for entry in features {
            let name = text(entry, "property")?;
            let mut bits = String::new();
            for (place, mask) in entry.get("bits").and_then(Value::as_object).into_iter().flatten() {
                let (leaf, register) = place.split_once('.').ok_or("hyperv.json: no register")?;
                let register = format!("{}{}", register[..1].to_uppercase(), &register[1..]);
                emit(
                    &mut bits,
                    format_args!("(0x4000000{leaf}, Register::{register}, {}),", parse(mask)?),
                );
            }
            let requires = entry.get("requires").and_then(Value::as_array).into_iter().flatten();
            let requires: Result<Vec<String>, String> = requires
                .map(|name| Ok(format!("ScalarId({})", self.scalar(name.as_str().unwrap_or_default())?)))
                .collect();
            emit(
                code,
                format_args!(
                    "HypervFeature {{ property: ScalarId({}), description: {:?}, bits: &[{bits}], requires: &[{}] }},",
                    self.scalar(name)?,
                    text(entry, "description")?,
                    requires?.join(", "),
                ),
            );
        }
        emit(code, format_args!("];"));
        Ok(())
    }
}

/// A model while its versions are applied one after the other.
struct VersionState {
    words: Vec<u64>,
    model: u64,
    stepping: u64,
    model_id: String,
    avx10_version: u64,
    force_leaf_1f: bool,
    caches: Option<usize>,
}

impl VersionState {
    fn of(tables: &Tables, model: &Value) -> Result<Self, String> {
        let name = text(model, "name")?;
        let mut words = vec![0; tables.words.len()];
        for (word, value) in model.get("words").and_then(Value::as_object).into_iter().flatten() {
            let word = tables
                .word(word)
                .map_err(|error| format!("models.json: {name}: {error}"))?;
            words[word] = parse(value)?;
        }
        Ok(Self {
            words,
            model: number(model, "model")?,
            stepping: number(model, "stepping")?,
            model_id: text(model, "model-id")?.to_owned(),
            avx10_version: 0,
            force_leaf_1f: false,
            caches: Self::caches(tables, model)?,
        })
    }

    fn caches(tables: &Tables, entry: &Value) -> Result<Option<usize>, String> {
        let Some(name) = entry.get("caches").and_then(Value::as_str) else {
            return Ok(None);
        };
        let place = tables.caches.get(name).copied();
        place.map(Some).ok_or_else(|| format!("no cache table '{name}'"))
    }

    fn advance(&mut self, tables: &Tables, entry: &Value) -> Result<(), String> {
        if let Some(caches) = Self::caches(tables, entry)? {
            self.caches = Some(caches);
        }
        for (name, value) in entry.get("props").and_then(Value::as_object).into_iter().flatten() {
            let given = value.as_str().unwrap_or_default();
            match name.as_str() {
                "model" => self.model = parse(value)?,
                "stepping" => self.stepping = parse(value)?,
                "model-id" => given.clone_into(&mut self.model_id),
                "avx10-version" => self.avx10_version = parse(value)?,
                "x-force-cpuid-0x1f" => self.force_leaf_1f = given == "on",
                _ => {
                    let bits = tables.feature(name)?;
                    match given {
                        "on" => self.words[bits.word] |= bits.mask,
                        "off" => self.words[bits.word] &= !bits.mask,
                        other => return Err(format!("'{name}' is '{other}'")),
                    }
                }
            }
        }
        Ok(())
    }

    fn write(&self, name: &str, version: u32, note: Option<&str>, code: &mut String) {
        let caches = self
            .caches
            .map_or("None".to_owned(), |place| format!("Some(&CACHES[{place}].1)"));
        emit(
            code,
            format_args!(
                "Version {{ name: \"{name}-v{version}\", note: {note:?}, model: {}, stepping: {}, model_id: {:?}, avx10_version: {}, \
                 force_leaf_1f: {}, caches: {caches}, words: {:?} }},",
                self.model, self.stepping, self.model_id, self.avx10_version, self.force_leaf_1f, self.words
            ),
        );
    }
}

fn emit(code: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = writeln!(code, "{line}");
}

fn feature(bits: Bits) -> String {
    format!("Feature {{ word: Word({}), mask: {:#x} }}", bits.word, bits.mask)
}

/// The name of a constant for something called `name`.
fn constant(name: &str) -> String {
    let text = name.replace(['-', '.'], "_").to_uppercase();
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        format!("X{text}")
    } else {
        text
    }
}

fn location(entry: &Value) -> Result<String, String> {
    if entry.get("msr").is_some() {
        return Ok(format!("Location::Msr({:#x})", number(entry, "msr")?));
    }
    let subleaf = match entry.get("subleaf") {
        Some(_) => format!("Some({})", number(entry, "subleaf")?),
        None => "None".to_owned(),
    };
    let register = text(entry, "register")?;
    let register = format!("{}{}", register[..1].to_uppercase(), &register[1..]);
    Ok(format!(
        "Location::Cpuid {{ leaf: {:#x}, subleaf: {subleaf}, register: Register::{register} }}",
        number(entry, "leaf")?
    ))
}

fn location_text(entry: &Value) -> Result<String, String> {
    if entry.get("msr").is_some() {
        return Ok(format!("Model-specific register {:#x}", number(entry, "msr")?));
    }
    let subleaf = match entry.get("subleaf") {
        Some(_) => format!(", subleaf {}", number(entry, "subleaf")?),
        None => String::new(),
    };
    Ok(format!(
        "CPUID leaf {:#x}{subleaf}, {}",
        number(entry, "leaf")?,
        text(entry, "register")?.to_uppercase()
    ))
}

/// The value a property has when nobody set it.
fn initial(entry: &Value) -> Result<String, String> {
    Ok(match entry.get("default").or_else(|| entry.get("initial")) {
        Some(Value::Bool(on)) => i64::from(*on).to_string(),
        Some(Value::String(text)) if text == "off" => "2".to_owned(),
        Some(Value::String(_)) | None => "0".to_owned(),
        Some(Value::Number(number)) => match number.as_i64() {
            Some(number) => number.to_string(),
            None => {
                let number = number.as_u64().ok_or("properties.json: default")?;
                i64::from_ne_bytes(number.to_ne_bytes()).to_string()
            }
        },
        Some(other) => return Err(format!("properties.json: default {other}")),
    })
}

fn text<'a>(entry: &'a Value, key: &str) -> Result<&'a str, String> {
    entry
        .get(key)
        .and_then(Value::as_str)
        .ok_or_else(|| format!("{entry}: no text '{key}'"))
}

fn number(entry: &Value, key: &str) -> Result<u64, String> {
    parse(entry.get(key).ok_or_else(|| format!("{entry}: no number '{key}'"))?)
}

fn optional_number(entry: &Value, key: &str) -> Result<u64, String> {
    entry.get(key).map_or(Ok(0), parse)
}

/// A number, or a text with one in the decimal or hexadecimal form.
fn parse(value: &Value) -> Result<u64, String> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        },
        _ => None,
    };
    number.ok_or_else(|| format!("'{value}' is not a number"))
}
