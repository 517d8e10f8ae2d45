//! The stream as it is read.

use std::io::{self, Read};

use super::error::MigrationError;
use super::wire::{MAGIC, PAGE, RAM, RAM_VERSION, VERSION, command, kind, record};
use crate::vmstate::ReceivedSection;

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;
/// The longest section of a device, by far.
const LONGEST: usize = 64 << 20;
/// The longest description.
const LONGEST_DESCRIPTION: usize = 64 << 20;

/// Who takes over what a stream brings.
pub trait Destination {
    /// The name of this guest's machine.
    fn machine(&self) -> &str;
    /// A block of memory has so many bytes. Returns the number by which pages of it are told.
    ///
    /// # Errors
    /// There is no such block here, or it is of another size.
    fn block(&mut self, name: &str, len: u64) -> Result<usize, MigrationError>;
    /// The number of a block that was not listed.
    ///
    /// # Errors
    /// There is no such block here.
    fn find_block(&mut self, name: &str) -> Result<usize, MigrationError>;
    /// A page, zero if it has no content.
    ///
    /// # Errors
    /// It is outside of the block.
    fn page(&mut self, block: usize, address: u64, content: Option<&[u8; PAGE]>) -> Result<(), MigrationError>;
    /// A section of a device, whose bytes are followed by others. Takes it over if it is complete and `end` follows; then
    /// returns its length. Returns none if there may be more of it than is here.
    ///
    /// # Errors
    /// It is not this guest's, or cannot be taken over.
    fn section(&mut self, section: &ReceivedSection<'_>, end: &[u8]) -> Result<Option<usize>, MigrationError>;
    /// The way back is open: bytes to be sent there are collected in `answers` from now on.
    ///
    /// # Errors
    /// There is no way back.
    fn open_return_path(&mut self) -> Result<(), MigrationError>;
    /// The sign that was asked for.
    ///
    /// # Errors
    /// There is no way back, or it is broken.
    fn pong(&mut self, number: u32) -> Result<(), MigrationError>;
}

/// Reads a whole stream. Returns its description, if there is one.
///
/// # Errors
/// Names what is missing, wrong or not this guest's.
pub fn read(source: impl Read, destination: &mut impl Destination) -> Result<Option<Vec<u8>>, MigrationError> {
    let mut reader = Reader {
        input: Input::new(source),
        destination,
        ram: None,
        block: None,
    };
    reader.begin()?;
    while reader.section()? {}
    reader.description()
}

struct Reader<'a, R, D> {
    input: Input<R>,
    destination: &'a mut D,
    /// The id of the section of memory.
    ram: Option<u32>,
    /// The block of the record before.
    block: Option<usize>,
}

impl<R: Read, D: Destination> Reader<'_, R, D> {
    fn begin(&mut self) -> Result<(), MigrationError> {
        if self.input.be32("its header")? != MAGIC {
            return Err(MigrationError::NotAStream);
        }
        match self.input.be32("its header")? {
            VERSION => {}
            other => return Err(MigrationError::Version(other)),
        }
        if self.input.byte("its header")? != kind::CONFIGURATION {
            return Err(MigrationError::NoConfiguration);
        }
        let own = self.destination.machine().to_owned();
        let len = self.input.be32("configuration: len")?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let name = self.input.bytes(len.min(usize::from(u8::MAX)), "configuration: name")?;
        let theirs = String::from_utf8_lossy(name).into_owned();
        if theirs != own {
            return Err(MigrationError::Machine { theirs, own });
        }
        if let Some(name) = self.input.subsection()? {
            return Err(MigrationError::Unknown(format!(
                "configuration: unknown subsection '{name}'"
            )));
        }
        Ok(())
    }

    /// Reads the next section. Returns whether there is another one.
    fn section(&mut self) -> Result<bool, MigrationError> {
        match self.input.byte("a section")? {
            kind::EOF => return Ok(false),
            kind::COMMAND => self.command()?,
            kind @ (kind::START | kind::FULL) => {
                let id = self.input.be32("a section's header")?;
                let name = self.input.string("a section's header")?;
                let instance = self.input.be32("a section's header")?;
                let version = self.input.be32("a section's header")?;
                match name.as_str() {
                    RAM if kind == kind::START && instance == 0 => self.ram_start(id, version)?,
                    _ => self.device(id, &name, instance, version)?,
                }
            }
            kind::PART | kind::END => {
                let id = self.input.be32("a section's header")?;
                if self.ram != Some(id) {
                    return Err(MigrationError::Unknown(format!("Unknown section {id}")));
                }
                self.records()?;
                self.footer(id, RAM)?;
            }
            other => return Err(MigrationError::Unknown(format!("Unknown section type {other}"))),
        }
        Ok(true)
    }

    fn command(&mut self) -> Result<(), MigrationError> {
        let number = self.input.be16("a command")?;
        let len = usize::from(self.input.be16("a command")?);
        let data = self.input.bytes(len, "a command")?;
        match (number, data) {
            (command::OPEN_RETURN_PATH, []) => self.destination.open_return_path(),
            (command::PING, &[a, b, c, d]) => self.destination.pong(u32::from_be_bytes([a, b, c, d])),
            (command::SWITCHOVER_START, []) => Ok(()),
            _ => Err(MigrationError::Unknown(format!(
                "Unknown command {number} with {len} bytes"
            ))),
        }
    }

    fn footer(&mut self, id: u32, name: &str) -> Result<(), MigrationError> {
        let missing = || MigrationError::Footer(name.to_owned());
        if self.input.byte("a section's footer")? != kind::FOOTER || self.input.be32("a section's footer")? != id {
            return Err(missing());
        }
        Ok(())
    }

    fn ram_start(&mut self, id: u32, version: u32) -> Result<(), MigrationError> {
        if version != RAM_VERSION {
            return Err(MigrationError::Unknown(format!(
                "unsupported version {version} for '{RAM}' v{RAM_VERSION}"
            )));
        }
        self.ram = Some(id);
        self.records()?;
        self.footer(id, RAM)
    }

    fn records(&mut self) -> Result<(), MigrationError> {
        loop {
            let head = self.input.be64("ram: a record")?;
            let (address, flags) = (head & !record::MASK, head & record::MASK);
            match flags & !record::CONTINUE {
                record::EOS => return Ok(()),
                record::MEM_SIZE => self.block_list(address)?,
                record::ZERO => {
                    let block = self.block(flags)?;
                    match self.input.byte("ram: a zero page")? {
                        0 => self.destination.page(block, address, None)?,
                        byte => {
                            let what = format!("a page is filled with {byte:#x}, which is not supported");
                            return Err(MigrationError::Record(what));
                        }
                    }
                }
                record::PAGE => {
                    let block = self.block(flags)?;
                    let content = self.input.page()?;
                    self.destination.page(block, address, Some(content))?;
                }
                record::XBZRLE => {
                    return Err(MigrationError::Record("compressed pages are not supported".into()));
                }
                _ => {
                    return Err(MigrationError::Record(format!(
                        "unknown combination of flags: {flags:#x}"
                    )));
                }
            }
        }
    }

    fn block(&mut self, flags: u64) -> Result<usize, MigrationError> {
        if flags & record::CONTINUE == 0 {
            let name = self.input.string("ram: a block's name")?;
            self.block = Some(self.destination.find_block(&name)?);
        }
        let none = || MigrationError::Record("a page without a block".into());
        self.block.ok_or_else(none)
    }

    fn block_list(&mut self, total: u64) -> Result<(), MigrationError> {
        let mut left = total;
        while left > 0 {
            let name = self.input.string("ram: the list of blocks")?;
            let len = self.input.be64("ram: the list of blocks")?;
            self.destination.block(&name, len)?;
            let bad = || MigrationError::Record(format!("block \"{name}\" of {len:#x} bytes where {left:#x} are left"));
            left = left.checked_sub(len).filter(|_| len > 0).ok_or_else(bad)?;
        }
        Ok(())
    }

    fn device(&mut self, id: u32, name: &str, instance: u32, version: u32) -> Result<(), MigrationError> {
        let mut end = [kind::FOOTER; 5];
        end[1..].copy_from_slice(&id.to_be_bytes());
        let mut wanted = CHUNK.min(self.input.available().max(1));
        loop {
            let at_end = self.input.fill(wanted)?;
            let section = ReceivedSection {
                name,
                instance,
                version,
                bytes: self.input.peek(),
            };
            if let Some(len) = self.destination.section(&section, &end)? {
                self.input.skip(len + end.len());
                return Ok(());
            }
            if at_end {
                return Err(MigrationError::Ended(format!("section {name}")));
            }
            if wanted >= LONGEST {
                return Err(MigrationError::TooLong(name.to_owned(), LONGEST));
            }
            // More than there was; a source that has sent all there is must not be waited for.
            wanted = self.input.available() + 1;
        }
    }

    fn description(&mut self) -> Result<Option<Vec<u8>>, MigrationError> {
        // It may be missing, and then so may everything after.
        match self.input.fill(1)? {
            true if self.input.available() == 0 => return Ok(None),
            _ => {}
        }
        if self.input.byte("the description")? != kind::DESCRIPTION {
            return Ok(None);
        }
        let len = usize::try_from(self.input.be32("the description")?).unwrap_or(usize::MAX);
        if len > LONGEST_DESCRIPTION {
            return Err(MigrationError::TooLong("description".into(), LONGEST_DESCRIPTION));
        }
        Ok(Some(self.input.bytes(len, "the description")?.to_vec()))
    }
}

/// Bytes that were read and not used yet, and where more come from.
struct Input<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
}

impl<R: Read> Input<R> {
    fn new(source: R) -> Self {
        Self {
            source,
            buffer: Vec::with_capacity(CHUNK),
            start: 0,
        }
    }

    fn peek(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn available(&self) -> usize {
        self.buffer.len() - self.start
    }

    fn skip(&mut self, count: usize) {
        self.start = (self.start + count).min(self.buffer.len());
    }

    /// Reads until there are `count` bytes, or there are no more: then it returns true.
    fn fill(&mut self, count: usize) -> Result<bool, MigrationError> {
        if self.available() >= count {
            return Ok(false);
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        while self.buffer.len() < count {
            let len = self.buffer.len();
            self.buffer.resize(len + CHUNK, 0);
            let read = self.source.read(&mut self.buffer[len..]);
            self.buffer.truncate(len + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(MigrationError::io("reading the stream", error)),
            }
        }
        Ok(false)
    }

    fn bytes(&mut self, count: usize, of: &str) -> Result<&[u8], MigrationError> {
        if self.fill(count)? {
            return Err(MigrationError::Ended(of.to_owned()));
        }
        let start = self.start;
        self.start += count;
        Ok(&self.buffer[start..start + count])
    }

    fn array<const N: usize>(&mut self, of: &str) -> Result<[u8; N], MigrationError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N, of)?);
        Ok(array)
    }

    fn page(&mut self) -> Result<&[u8; PAGE], MigrationError> {
        let bytes = self.bytes(PAGE, "ram: a page")?;
        bytes
            .try_into()
            .map_err(|_| MigrationError::Ended("ram: a page".into()))
    }

    fn byte(&mut self, of: &str) -> Result<u8, MigrationError> {
        self.array(of).map(u8::from_be_bytes)
    }

    fn be16(&mut self, of: &str) -> Result<u16, MigrationError> {
        self.array(of).map(u16::from_be_bytes)
    }

    fn be32(&mut self, of: &str) -> Result<u32, MigrationError> {
        self.array(of).map(u32::from_be_bytes)
    }

    fn be64(&mut self, of: &str) -> Result<u64, MigrationError> {
        self.array(of).map(u64::from_be_bytes)
    }

    fn string(&mut self, of: &str) -> Result<String, MigrationError> {
        let len = usize::from(self.byte(of)?);
        let bytes = self.bytes(len, of)?.to_vec();
        String::from_utf8(bytes).map_err(|_| MigrationError::Unknown(format!("{of} is no text")))
    }

    /// The name of the subsection of the configuration that comes next, if one does.
    fn subsection(&mut self) -> Result<Option<String>, MigrationError> {
        const SUBSECTION: u8 = 5;
        self.fill(1)?;
        match self.peek().first() {
            Some(&SUBSECTION) => {
                self.skip(1);
                self.string("configuration").map(Some)
            }
            _ => Ok(None),
        }
    }
}
