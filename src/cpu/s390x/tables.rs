//! The tables of `schema/cpu/s390x`, compiled in.

use super::compat::{DefaultOff, EmulatedModel, MachineVersion};
use super::feature::{Block, Capability, Feature, FeatureId, Group, Indicator, Origin};
use super::model::Definition;
use super::set::FeatureSet;
use super::types::{READ_ONLY, model_type};
use crate::qom::{Default, PropertyInfo, PropertyKind, TypeInfo};

include!(concat!(env!("OUT_DIR"), "/s390x_tables.rs"));
