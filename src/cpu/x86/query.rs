//! Questions about CPU models: which there are, what they can do on a host, and what they are when spelt out.

use serde_json::Value;

use super::arguments::Arguments;
use super::compat::MachineCompat;
use super::cpu::{Context, Cpu};
use super::error::{Error, Warning};
use super::features::Features;
use super::model::Model;
use super::props::PropValue;
use super::realize::Processor;
use super::supported::{Accel, supported};
use super::tables::TYPES;
use super::topology::Topology;

/// CPU models as a process sees them: with its machine type, its accelerator and its `-cpu`.
#[derive(Clone, Debug)]
pub struct Cpus<'a> {
    compat: MachineCompat,
    accel: Option<Accel<'a>>,
    arguments: Arguments,
    supported: Features,
}

/// An entry of `query-cpu-definitions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionInfo {
    /// The name.
    pub name: &'static str,
    /// The QOM type.
    pub typename: &'static str,
    /// Whether it never changes: true of `base` only.
    pub is_static: bool,
    /// Whether it is the same on every host.
    pub migration_safe: bool,
    /// What keeps it from running; none if there is no accelerator to ask.
    pub unavailable_features: Option<Vec<&'static str>>,
    /// What it is another name of.
    pub alias_of: Option<&'static str>,
}

/// How much `query-cpu-model-expansion` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expansion {
    /// Everything that makes the CPU from `base`.
    Static,
    /// Every property that can be set.
    Full,
}

/// The answer of `query-cpu-model-expansion`.
#[derive(Clone, Debug)]
pub struct ExpansionInfo {
    /// The model to start from.
    pub name: String,
    kind: Expansion,
    cpu: Cpu,
}

impl ExpansionInfo {
    /// Gives each property to set to `take`, with its value.
    pub fn for_each_prop(&self, mut take: impl FnMut(&'static str, PropValue)) {
        let mut take = |(name, value)| take(name, value);
        match self.kind {
            Expansion::Static => static_props(&self.cpu).for_each(take),
            Expansion::Full => {
                self.cpu.properties().for_each(&mut take);
                of_every_device().into_iter().for_each(take);
            }
        }
    }
}

/// Properties beside features that a static expansion tells.
const STATIC_PROPS: [&str; 8] = [
    "min-level",
    "min-xlevel",
    "family",
    "model",
    "stepping",
    "model-id",
    "vendor",
    "lmce",
];

impl<'a> Cpus<'a> {
    /// The models of a machine with an accelerator in use, or without one.
    #[must_use]
    pub fn new(compat: MachineCompat, accel: Option<Accel<'a>>) -> Self {
        let supported = accel.as_ref().map(supported).unwrap_or_default();
        Self {
            compat,
            accel,
            arguments: Arguments::default(),
            supported,
        }
    }

    /// With what a command line says about all CPUs.
    #[must_use]
    pub fn with_arguments(mut self, arguments: Arguments) -> Self {
        self.arguments = arguments;
        self
    }

    /// The machine's part.
    #[must_use]
    pub fn compat(&self) -> MachineCompat {
        self.compat
    }

    /// The features that the accelerator can give.
    #[must_use]
    pub fn supported_features(&self) -> &Features {
        &self.supported
    }

    /// The model called `name`; `host` only where there is an accelerator.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Model> {
        Model::find(name, self.compat).filter(|model| self.accel.is_some() || !matches!(model, Model::Host))
    }

    /// Every model, in QMP's order.
    pub fn models(&self) -> impl Iterator<Item = Model> {
        let specials = [Model::Max, Model::Host, Model::Base];
        let compat = self.compat;
        let named = TYPES.iter().map(move |model_type| Model::of_type(model_type, compat));
        let with_host = self.accel.is_some();
        specials
            .into_iter()
            .filter(move |model| with_host || !matches!(model, Model::Host))
            .chain(named)
    }

    /// `query-cpu-definitions`.
    #[must_use]
    pub fn definitions(&self) -> Vec<DefinitionInfo> {
        self.models().map(|model| self.definition(model)).collect()
    }

    fn definition(&self, model: Model) -> DefinitionInfo {
        DefinitionInfo {
            name: model.name(),
            typename: model.typename(),
            is_static: matches!(model, Model::Base),
            migration_safe: !model.is_max(),
            unavailable_features: self.accel.is_some().then(|| self.unavailable_features(model)),
            alias_of: model.alias_of(self.compat),
        }
    }

    /// What keeps the accelerator from running a model: names of features, and `type` if the model cannot even be
    /// expanded.
    #[must_use]
    pub fn unavailable_features(&self, model: Model) -> Vec<&'static str> {
        match self.filtered(model) {
            Ok(cpu) => cpu.unavailable_features(),
            Err(_) => vec!["type"],
        }
    }

    /// The CPU a guest would get.
    ///
    /// # Errors
    /// When the process's `-cpu` does not fit the model.
    pub fn filtered(&self, model: Model) -> Result<Cpu, Error> {
        let mut cpu = self.expanded(model)?;
        cpu.filter(&self.context(), false);
        Ok(cpu)
    }

    /// The CPU as the model has it, whatever the host lacks.
    ///
    /// # Errors
    /// When the process's `-cpu` does not fit the model.
    pub fn expanded(&self, model: Model) -> Result<Cpu, Error> {
        let context = self.context();
        let mut cpu = Cpu::new(model, &context)?;
        cpu.expand(&context, &Topology::default())?;
        Ok(cpu)
    }

    /// `query-cpu-model-expansion`. Errors name properties with `model.props.` before them.
    ///
    /// # Errors
    /// When there is no such model, or it does not have a property or takes no such value of it.
    pub fn expand(&self, kind: Expansion, name: &str, props: Option<&Value>) -> Result<ExpansionInfo, Error> {
        let model = self.find(name).ok_or_else(|| Error::NoSuchModel(name.to_owned()))?;
        let context = self.context();
        let mut cpu = Cpu::new(model, &context)?;
        if let Some(props) = props {
            let wrong = || Error::WrongType {
                parameter: "model.props".to_owned(),
                expected: "object",
            };
            for (property, value) in props.as_object().ok_or_else(wrong)? {
                cpu.set_json(property, value, "model.props.")?;
            }
        }
        cpu.expand(&context, &Topology::default())?;
        let name = match kind {
            Expansion::Static => "base",
            Expansion::Full => name,
        };
        Ok(ExpansionInfo {
            name: name.to_owned(),
            kind,
            cpu,
        })
    }

    /// A guest's processors. Warnings are there even if there is an error.
    ///
    /// # Errors
    /// When a property does not fit, the host lacks what is insisted on, or there is no accelerator.
    pub fn realize(&self, model: Model, topology: Topology, warnings: &mut Vec<Warning>) -> Result<Processor, Error> {
        let accel = self.accel.ok_or_else(|| Error::NeedsHost(model.name().to_owned()))?;
        let context = self.context();
        let cpu = Cpu::new(model, &context)?;
        Processor::new(cpu, &context, &accel, topology, warnings)
    }

    fn context(&self) -> Context<'_> {
        Context {
            compat: self.compat,
            accel: self.accel,
            supported: &self.supported,
            arguments: &self.arguments,
        }
    }
}

fn static_props(cpu: &Cpu) -> impl Iterator<Item = (&'static str, PropValue)> {
    let scalars = STATIC_PROPS.into_iter().filter_map(|name| Some((name, cpu.get(name)?)));
    scalars.chain(cpu.named_features().map(|(name, on)| (name, PropValue::Bool(on))))
}

/// Properties that a CPU has because it is a device, as one has them that is not in use.
fn of_every_device() -> [(&'static str, PropValue); 2] {
    [
        ("memory", PropValue::Text("/machine/unattached/system[0]".into())),
        ("realized", PropValue::Bool(false)),
    ]
}
