//! ELF kernels, of 32 or 64 bits: what is loaded where, and the entry point that a PVH note names.

use std::io::{Read, Seek, SeekFrom};

use elf::abi::{EM_386, EM_X86_64, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::note::{Note, NoteIterator};
use elf::parse::ParsingTable;
use elf::segment::{ProgramHeader, SegmentTable};
use vm_memory::{Bytes, GuestAddress};

use super::Image;
use crate::mem::GuestRam;
use crate::qapi::Error;

/// Bytes of the identification, and of the longer one of the two forms of the header.
const IDENT_SIZE: usize = 16;
const HEADER_SIZE: usize = 64;
/// `XEN_ELFNOTE_PHYS32_ENTRY` (xen/include/public/elfnote.h): where a PVH guest starts in 32-bit mode.
const PHYS32_ENTRY: u64 = 18;
const XEN: &[u8] = b"Xen\0";
/// Notes beyond this are not looked at.
const NOTES_SIZE: u64 = 64 << 10;

/// A kernel in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loaded {
    /// Where it starts.
    pub(super) entry: u64,
    /// The first address after it.
    pub(super) end: u64,
}

/// Loads the segments at their physical addresses.
pub(super) fn load(memory: &GuestRam, kernel: &mut Image) -> Result<Loaded, Error> {
    let segments = segments(kernel)?;
    let mut entry = None;
    for note in segments.iter().filter(|segment| segment.p_type == PT_NOTE) {
        entry = entry.or(pvh_entry(kernel, note)?);
    }
    let entry = entry.ok_or_else(|| kernel.bad(&"Error loading uncompressed kernel without PVH ELF Note"))?;
    let mut end = 0;
    for segment in segments.iter().filter(|segment| segment.p_type == PT_LOAD) {
        end = end.max(load_segment(memory, kernel, segment)?);
    }
    Ok(Loaded { entry, end })
}

fn segments(kernel: &mut Image) -> Result<Vec<ProgramHeader>, Error> {
    let head = read_at(kernel, 0, HEADER_SIZE)?;
    let (ident, tail) = head.split_at(IDENT_SIZE);
    let ident = parse_ident::<LittleEndian>(ident).map_err(|error| kernel.bad(&error))?;
    let class = ident.1;
    let header = FileHeader::parse_tail(ident, tail).map_err(|error| kernel.bad(&error))?;
    if ![EM_386, EM_X86_64].contains(&header.e_machine) {
        return Err(kernel.bad(&format_args!("it is for another machine ({})", header.e_machine)));
    }
    let entry_size = match class {
        Class::ELF32 => 32,
        Class::ELF64 => 56,
    };
    if header.e_phentsize != entry_size {
        return Err(kernel.bad(&"Invalid program header size"));
    }
    let size = usize::from(entry_size) * usize::from(header.e_phnum);
    let table = read_at(kernel, header.e_phoff, size)?;
    let table: SegmentTable<'_, LittleEndian> = ParsingTable::new(LittleEndian, class, &table);
    Ok(table.iter().collect())
}

/// The entry point that one segment of notes names, if it names one.
fn pvh_entry(kernel: &mut Image, segment: &ProgramHeader) -> Result<Option<u64>, Error> {
    let size = usize::try_from(segment.p_filesz.min(NOTES_SIZE)).unwrap_or_default();
    let bytes = read_at(kernel, segment.p_offset, size)?;
    let align = if segment.p_align == 8 { 8 } else { 4 };
    let mut notes = NoteIterator::new(LittleEndian, Class::ELF32, align, &bytes);
    Ok(notes.find_map(|note| match note {
        Note::Unknown(note) if note.name == XEN && note.n_type == PHYS32_ENTRY => number(note.desc),
        _ => None,
    }))
}

/// A number of four or eight bytes.
fn number(bytes: &[u8]) -> Option<u64> {
    let narrow = || Some(u64::from(u32::from_le_bytes(bytes.try_into().ok()?)));
    narrow().or_else(|| Some(u64::from_le_bytes(bytes.try_into().ok()?)))
}

/// Copies what the file has of a segment. Returns where the segment ends.
fn load_segment(memory: &GuestRam, kernel: &mut Image, segment: &ProgramHeader) -> Result<u64, Error> {
    let at = segment.p_paddr;
    let end = at.checked_add(segment.p_memsz.max(segment.p_filesz));
    let end = end.ok_or_else(|| kernel.bad(&"a segment ends beyond all addresses"))?;
    let count = usize::try_from(segment.p_filesz).map_err(|error| kernel.bad(&error))?;
    let copied = kernel
        .file
        .seek(SeekFrom::Start(segment.p_offset))
        .map_err(|error| kernel.bad(&error))
        .map(|_| memory.read_exact_volatile_from(GuestAddress(at), &mut kernel.file, count))?;
    copied.map_err(|error| kernel.bad(&format_args!("a segment of {count} bytes for 0x{at:x}: {error}")))?;
    Ok(end)
}

/// Bytes of the file.
fn read_at(kernel: &mut Image, at: u64, size: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; size];
    let read = kernel.file.seek(SeekFrom::Start(at));
    let read = read.and_then(|_| kernel.file.read_exact(&mut bytes));
    read.map_err(|error| kernel.bad(&error))?;
    Ok(bytes)
}
