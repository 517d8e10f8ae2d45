//! A checked schema: what the generators read.

use std::collections::BTreeMap;

use super::doc::Doc;
use super::error::Place;

/// Architectures that conditions tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    /// x86_64.
    X86_64,
    /// s390x.
    S390x,
}

impl Arch {
    /// Every architecture.
    pub(crate) const ALL: [Self; 2] = [Self::X86_64, Self::S390x];

    /// Its name in file names.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::S390x => "s390x",
        }
    }

    /// The variant of the library's `Target`.
    pub(crate) const fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "X86_64",
            Self::S390x => "S390x",
        }
    }
}

/// Where a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// In the monitor process.
    Monitor,
    /// In the guest's worker process.
    Worker,
    /// In the protocol session itself.
    Session,
}

/// Types the language has without a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Builtin {
    /// Text.
    Str,
    /// A floating-point number.
    Number,
    /// A signed number of 64 bits.
    Int,
    /// A signed number of 8 bits.
    Int8,
    /// A signed number of 16 bits.
    Int16,
    /// A signed number of 32 bits.
    Int32,
    /// A number of 8 bits.
    Uint8,
    /// A number of 16 bits.
    Uint16,
    /// A number of 32 bits.
    Uint32,
    /// A number of 64 bits.
    Uint64,
    /// A number of 64 bits that counts bytes and may carry a suffix on the command line.
    Size,
    /// A boolean.
    Bool,
    /// JSON's null.
    Null,
    /// Any JSON value.
    Any,
}

impl Builtin {
    /// The type of this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "str" => Self::Str,
            "number" => Self::Number,
            "int" | "int64" => Self::Int,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "int32" => Self::Int32,
            "uint8" => Self::Uint8,
            "uint16" => Self::Uint16,
            "uint32" => Self::Uint32,
            "uint64" => Self::Uint64,
            "size" => Self::Size,
            "bool" => Self::Bool,
            "null" => Self::Null,
            "any" => Self::Any,
            _ => return None,
        })
    }
}

/// A use of a type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TypeRef {
    /// A type of the language.
    Builtin(Builtin),
    /// A type of the schema.
    Named(String),
    /// An array.
    Array(Box<TypeRef>),
}

/// A member of a struct, of a base or of arguments.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its name on the wire.
    pub(crate) name: String,
    /// Its type.
    pub(crate) ty: TypeRef,
    /// Whether it may be left out.
    pub(crate) optional: bool,
    /// Its features.
    pub(crate) features: Vec<String>,
    /// What the schema says about it.
    pub(crate) doc: String,
}

/// A value of an enumeration.
#[derive(Clone, Debug)]
pub(crate) struct EnumValue {
    /// Its spelling on the wire.
    pub(crate) name: String,
    /// Its features.
    pub(crate) features: Vec<String>,
    /// What the schema says about it.
    pub(crate) doc: String,
}

/// A branch of a union or an alternate.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    /// The value of the discriminator, or just a name in an alternate.
    pub(crate) name: String,
    /// What it holds; a union's branch may hold nothing.
    pub(crate) ty: Option<TypeRef>,
    /// What the schema says about it.
    pub(crate) doc: String,
}

/// What a type is made of.
#[derive(Clone, Debug)]
pub(crate) enum TypeKind {
    /// Named members; those of the base come first and are already among them.
    Struct(Vec<Member>),
    /// One of a set of names.
    Enum(Vec<EnumValue>),
    /// Base members, one of which selects further members.
    Union {
        /// Members every value has, the discriminator among them.
        base: Vec<Member>,
        /// The member that selects the branch.
        discriminator: String,
        /// The type of the discriminator.
        tag: String,
        /// One for each value of the discriminator, in its order.
        branches: Vec<Branch>,
    },
    /// A value whose JSON type selects what it is.
    Alternate(Vec<Branch>),
}

/// A type that the schema defines.
#[derive(Clone, Debug)]
pub(crate) struct TypeDef {
    /// Its name.
    pub(crate) name: String,
    /// What it is made of.
    pub(crate) kind: TypeKind,
    /// Its features.
    pub(crate) features: Vec<String>,
    /// What the schema says about it.
    pub(crate) doc: Doc,
    /// Where it is defined.
    pub(crate) place: Place,
}

/// The data of a command or an event.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    /// None.
    None,
    /// Members written in place.
    Inline(Vec<Member>),
    /// The members of this type.
    Named(String),
}

/// A command.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    /// Its name.
    pub(crate) name: String,
    /// Its arguments.
    pub(crate) data: Data,
    /// Whether arguments are checked and decoded; otherwise the handler gets them as they came.
    pub(crate) typed: bool,
    /// What it returns; nothing is an empty object.
    pub(crate) returns: Option<TypeRef>,
    /// Whether it answers at all when it succeeds.
    pub(crate) success_response: bool,
    /// Whether it may run out of band.
    pub(crate) allow_oob: bool,
    /// Whether it may run before the machine is made.
    pub(crate) allow_preconfig: bool,
    /// Where it runs.
    pub(crate) run: Run,
    /// Its features.
    pub(crate) features: Vec<String>,
    /// Where it exists.
    pub(crate) archs: Vec<Arch>,
    /// What the schema says about it.
    pub(crate) doc: Doc,
}

/// How an event is held back when it comes too often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Throttle {
    /// It is not.
    None,
    /// One of them in each interval.
    Together,
    /// One for each value of this member in each interval.
    By(String),
}

/// An event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Its name.
    pub(crate) name: String,
    /// Its data.
    pub(crate) data: Data,
    /// Whether too many are held back.
    pub(crate) throttle: Throttle,
    /// Its features.
    pub(crate) features: Vec<String>,
    /// Where it exists.
    pub(crate) archs: Vec<Arch>,
    /// What the schema says about it.
    pub(crate) doc: Doc,
}

/// A whole checked schema, definitions in the order written.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    /// Types.
    pub(crate) types: Vec<TypeDef>,
    /// Where in `types` each name is.
    pub(crate) by_name: BTreeMap<String, usize>,
    /// Commands.
    pub(crate) commands: Vec<Command>,
    /// Events.
    pub(crate) events: Vec<Event>,
}

impl Schema {
    /// The definition of a type.
    pub(crate) fn find(&self, name: &str) -> Option<&TypeDef> {
        self.by_name.get(name).map(|&index| &self.types[index])
    }
}
