//! Visits the fields of a state: one list serves the writer, the reader and the description.

use super::describe::{Description, FieldDescription};
use super::error::{StateError, StateErrorKind};
use super::input::{Input, SUBSECTION};
use super::integer::Integer;
use super::{Layout, VmState};

/// The fields of a state, one after the other: written from it, or read into it.
#[derive(Debug)]
pub struct Fields<'a, 'i> {
    version: u32,
    mode: Mode<'a, 'i>,
}

#[derive(Debug)]
enum Mode<'a, 'i> {
    Write {
        bytes: &'a mut Vec<u8>,
        described: Vec<FieldDescription>,
    },
    Read(&'a mut Input<'i>),
}

impl Fields<'_, '_> {
    /// Writes a whole state.
    pub(super) fn write(state: &mut dyn VmState, bytes: &mut Vec<u8>) -> Result<Description, StateError> {
        state.pre_save()?;
        let layout = state.layout();
        let mut description = write_fields(layout, bytes, |fields| state.fields(fields))?;
        let mut subsections = Subsections(SubsectionMode::Write {
            bytes,
            described: Vec::new(),
        });
        state.subsections(&mut subsections)?;
        if let SubsectionMode::Write { described, .. } = subsections.0 {
            description.subsections = described;
        }
        Ok(description)
    }

    /// Reads a whole state.
    pub(super) fn read(state: &mut dyn VmState, version: u32, input: &mut Input<'_>) -> Result<(), StateError> {
        let layout = state.layout();
        layout.check(version)?;
        state.fields(&mut Fields {
            version,
            mode: Mode::Read(input),
        })?;
        while let Some((name, version)) = input.subsection(layout.name)? {
            let mut subsections = Subsections(SubsectionMode::Read {
                input,
                name,
                version,
                found: false,
            });
            state.subsections(&mut subsections)?;
            if let SubsectionMode::Read { found: false, .. } = subsections.0 {
                return Err(StateError::new(StateErrorKind::UnknownSubsection).within(name));
            }
        }
        state.post_load(version)
    }

    /// The version of the struct, which decides which fields there are.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Whether the state is being read.
    #[must_use]
    pub fn reading(&self) -> bool {
        matches!(self.mode, Mode::Read(_))
    }

    /// An integer.
    ///
    /// # Errors
    /// The data end before.
    pub fn int<T: Integer>(&mut self, name: &'static str, value: &mut T) -> Result<(), StateError> {
        self.element(name, T::TYPE, None, std::slice::from_mut(value))
    }

    /// An integer whose type QEMU calls by a name of its own.
    ///
    /// # Errors
    /// The data end before.
    pub fn int_as<T: Integer>(
        &mut self,
        name: &'static str,
        kind: &'static str,
        value: &mut T,
    ) -> Result<(), StateError> {
        self.element(name, kind, None, std::slice::from_mut(value))
    }

    /// An array of integers.
    ///
    /// # Errors
    /// The data end before.
    pub fn ints<T: Integer>(&mut self, name: &'static str, values: &mut [T]) -> Result<(), StateError> {
        match values {
            // Nothing is there to be described.
            [] => Ok(()),
            [only] => self.int(name, only),
            _ => self.element(name, T::TYPE, Some(values.len()), values),
        }
    }

    /// A boolean that QEMU keeps in an integer: 1 for true; every other value but 0 is true as well.
    ///
    /// # Errors
    /// The data end before.
    pub fn flag<T: Integer + From<bool> + PartialEq>(
        &mut self,
        name: &'static str,
        value: &mut bool,
    ) -> Result<(), StateError> {
        let mut wide = T::from(*value);
        self.int(name, &mut wide)?;
        *value = wide != T::from(false);
        Ok(())
    }

    /// An integer that must be the same on both sides.
    ///
    /// # Errors
    /// It is another one, or the data end before.
    pub fn equal<T: Integer + Into<u64>>(
        &mut self,
        name: &'static str,
        own: T,
        kind: &'static str,
    ) -> Result<(), StateError> {
        let mut value = own;
        self.element(name, kind, None, std::slice::from_mut(&mut value))?;
        let (own, theirs) = (own.into(), value.into());
        if own == theirs {
            return Ok(());
        }
        Err(StateError::new(StateErrorKind::Different { own, theirs }).within(name))
    }

    /// Bytes.
    ///
    /// # Errors
    /// The data end before.
    pub fn buffer(&mut self, name: &'static str, value: &mut [u8]) -> Result<(), StateError> {
        self.bytes(name, "buffer", value)
    }

    /// Bytes of a layout that no other type of field has.
    ///
    /// # Errors
    /// The data end before.
    pub fn bytes(&mut self, name: &'static str, kind: &'static str, value: &mut [u8]) -> Result<(), StateError> {
        match &mut self.mode {
            Mode::Write { bytes, described } => {
                bytes.extend_from_slice(value);
                described.push(FieldDescription::plain(name, kind, value.len()));
            }
            Mode::Read(input) => value.copy_from_slice(input.take(value.len()).map_err(|error| error.within(name))?),
        }
        Ok(())
    }

    /// Bytes without a meaning: written as zeroes, skipped when read.
    ///
    /// # Errors
    /// The data end before.
    pub fn unused(&mut self, name: &'static str, len: usize) -> Result<(), StateError> {
        match &mut self.mode {
            Mode::Write { bytes, described } => {
                bytes.resize(bytes.len() + len, 0);
                described.push(FieldDescription::plain(name, "unused_buffer", len));
            }
            Mode::Read(input) => {
                input.take(len).map_err(|error| error.within(name))?;
            }
        }
        Ok(())
    }

    /// When a timer expires, in nanoseconds of its clock; `None` if it does not run.
    ///
    /// # Errors
    /// The data end before.
    pub fn timer(&mut self, name: &'static str, expires: &mut Option<u64>) -> Result<(), StateError> {
        const STOPPED: u64 = u64::MAX;
        let mut value = [expires.unwrap_or(STOPPED)];
        self.element(name, "timer", None, &mut value)?;
        *expires = Some(value[0]).filter(|value| *value != STOPPED);
        Ok(())
    }

    /// A struct, with its subsections.
    ///
    /// # Errors
    /// Those of the struct.
    pub fn structure(&mut self, name: &'static str, state: &mut dyn VmState) -> Result<(), StateError> {
        match &mut self.mode {
            Mode::Write { bytes, described } => {
                let start = bytes.len();
                let structure = Self::write(state, bytes).map_err(|error| error.within(name))?;
                described.push(FieldDescription {
                    structure: Some(structure),
                    ..FieldDescription::plain(name, "struct", bytes.len() - start)
                });
                Ok(())
            }
            Mode::Read(input) => {
                let version = state.layout().version;
                Self::read(state, version, input).map_err(|error| error.within(name))
            }
        }
    }

    /// A struct that descriptions name, and say nothing more of.
    ///
    /// # Errors
    /// Those of the struct.
    pub fn opaque(
        &mut self,
        name: &'static str,
        kind: &'static str,
        state: &mut dyn VmState,
    ) -> Result<(), StateError> {
        self.structure(name, state)?;
        if let Mode::Write { described, .. } = &mut self.mode {
            if let Some(last) = described.last_mut() {
                (last.kind, last.structure) = (kind, None);
            }
        }
        Ok(())
    }

    /// An array of structs without conditions: all have the same fields, which are described once.
    ///
    /// # Errors
    /// Those of the structs.
    pub fn structures<T: VmState>(&mut self, name: &'static str, states: &mut [T]) -> Result<(), StateError> {
        let count = states.len();
        self.listed_structures(name, states)?;
        if let Mode::Write { described, .. } = &mut self.mode {
            described.truncate(described.len() - count.saturating_sub(1));
            if let Some(only) = described.last_mut().filter(|_| count > 1) {
                only.array_len = Some(count);
            }
        }
        Ok(())
    }

    /// An array of structs of which each is described, since fields and subsections of them have conditions.
    ///
    /// # Errors
    /// Those of the structs.
    pub fn listed_structures<T: VmState>(&mut self, name: &'static str, states: &mut [T]) -> Result<(), StateError> {
        for (index, state) in states.iter_mut().enumerate() {
            let result = self.structure(name, state);
            result.map_err(|error| error.renamed(format!("{name}[{index}]")))?;
        }
        Ok(())
    }

    /// The fields of a helper, which lie here in place.
    ///
    /// # Errors
    /// Those of the helper.
    pub fn helper(&mut self, name: &'static str, state: &mut dyn VmState) -> Result<(), StateError> {
        self.structure(name, state)?;
        if let Mode::Write { described, .. } = &mut self.mode {
            if let Some(last) = described.last_mut() {
                last.kind = "tmp";
                last.helper = last.structure.take();
            }
        }
        Ok(())
    }

    fn element<T: Integer>(
        &mut self,
        name: &'static str,
        kind: &'static str,
        array_len: Option<usize>,
        values: &mut [T],
    ) -> Result<(), StateError> {
        match &mut self.mode {
            Mode::Write { bytes, described } => {
                values.iter().for_each(|value| value.put(bytes));
                described.push(FieldDescription {
                    array_len,
                    ..FieldDescription::plain(name, kind, T::SIZE)
                });
            }
            Mode::Read(input) => {
                for value in values {
                    *value = T::take(input).map_err(|error| error.within(name))?;
                }
            }
        }
        Ok(())
    }
}

fn write_fields(
    layout: Layout,
    bytes: &mut Vec<u8>,
    visit: impl FnOnce(&mut Fields<'_, '_>) -> Result<(), StateError>,
) -> Result<Description, StateError> {
    let mut fields = Fields {
        version: layout.version,
        mode: Mode::Write {
            bytes,
            described: Vec::new(),
        },
    };
    visit(&mut fields)?;
    let fields = match fields.mode {
        Mode::Write { described, .. } => described,
        Mode::Read(_) => Vec::new(),
    };
    Ok(Description {
        vmsd_name: layout.name,
        version: layout.version,
        fields,
        subsections: Vec::new(),
    })
}

/// The subsections of a state: those that are needed are written, the one that came is read.
#[derive(Debug)]
pub struct Subsections<'a, 'i>(SubsectionMode<'a, 'i>);

#[derive(Debug)]
enum SubsectionMode<'a, 'i> {
    Write {
        bytes: &'a mut Vec<u8>,
        described: Vec<Description>,
    },
    Read {
        input: &'a mut Input<'i>,
        name: &'i str,
        version: u32,
        found: bool,
    },
}

impl Subsections<'_, '_> {
    /// A subsection of a few fields, which is written if it is `needed`.
    ///
    /// # Errors
    /// Those of the fields, and of a version that cannot be read.
    pub fn section(
        &mut self,
        layout: Layout,
        needed: bool,
        visit: impl FnOnce(&mut Fields<'_, '_>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        match &mut self.0 {
            SubsectionMode::Write { bytes, described } if needed => {
                put_header(layout, bytes);
                described.push(write_fields(layout, bytes, visit).map_err(|error| error.within(layout.name))?);
            }
            SubsectionMode::Read {
                input,
                name,
                version,
                found,
            } if *name == layout.name => {
                *found = true;
                let version = *version;
                let result = layout.check(version).and_then(|()| {
                    visit(&mut Fields {
                        version,
                        mode: Mode::Read(input),
                    })
                });
                result.map_err(|error| error.within(layout.name))?;
            }
            SubsectionMode::Write { .. } | SubsectionMode::Read { .. } => {}
        }
        Ok(())
    }

    /// A subsection with a table of its own, which is written if it is `needed`.
    ///
    /// # Errors
    /// Those of the subsection.
    pub fn whole(&mut self, needed: bool, state: &mut dyn VmState) -> Result<(), StateError> {
        let layout = state.layout();
        match &mut self.0 {
            SubsectionMode::Write { bytes, described } if needed => {
                put_header(layout, bytes);
                described.push(Fields::write(state, bytes).map_err(|error| error.within(layout.name))?);
            }
            SubsectionMode::Read {
                input,
                name,
                version,
                found,
            } if *name == layout.name => {
                *found = true;
                Fields::read(state, *version, input).map_err(|error| error.within(layout.name))?;
            }
            SubsectionMode::Write { .. } | SubsectionMode::Read { .. } => {}
        }
        Ok(())
    }
}

fn put_header(layout: Layout, bytes: &mut Vec<u8>) {
    bytes.push(SUBSECTION);
    // `Layout::new` refuses longer names.
    bytes.push(layout.name.len() as u8);
    bytes.extend_from_slice(layout.name.as_bytes());
    layout.version.put(bytes);
}
