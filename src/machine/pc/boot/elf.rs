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
use super::error::{BootError, KernelFault};
use crate::mem::GuestRam;

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
pub(super) fn load(memory: &GuestRam, kernel: &mut Image) -> Result<Loaded, BootError> {
    let segments = segments(kernel)?;
    let mut entry = None;
    for note in segments.iter().filter(|segment| segment.p_type == PT_NOTE) {
        entry = entry.or(pvh_entry(kernel, note)?);
    }
    let entry = entry.ok_or_else(|| kernel.bad(KernelFault::NoEntry))?;
    let mut end = 0;
    for segment in segments.iter().filter(|segment| segment.p_type == PT_LOAD) {
        end = end.max(load_segment(memory, kernel, segment)?);
    }
    Ok(Loaded { entry, end })
}

fn segments(kernel: &mut Image) -> Result<Vec<ProgramHeader>, BootError> {
    let head = read_at(kernel, 0, HEADER_SIZE)?;
    let (ident, tail) = head.split_at(IDENT_SIZE);
    let ident = parse_ident::<LittleEndian>(ident).map_err(|error| kernel.bad(error))?;
    let class = ident.1;
    let header = FileHeader::parse_tail(ident, tail).map_err(|error| kernel.bad(error))?;
    if ![EM_386, EM_X86_64].contains(&header.e_machine) {
        return Err(kernel.bad(KernelFault::Machine(header.e_machine)));
    }
    let entry_size = match class {
        Class::ELF32 => 32,
        Class::ELF64 => 56,
    };
    if header.e_phentsize != entry_size {
        return Err(kernel.bad(KernelFault::ProgramHeaders));
    }
    let size = usize::from(entry_size) * usize::from(header.e_phnum);
    let table = read_at(kernel, header.e_phoff, size)?;
    let table: SegmentTable<'_, LittleEndian> = ParsingTable::new(LittleEndian, class, &table);
    Ok(table.iter().collect())
}

/// The entry point that one segment of notes names, if it names one.
fn pvh_entry(kernel: &mut Image, segment: &ProgramHeader) -> Result<Option<u64>, BootError> {
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
fn load_segment(memory: &GuestRam, kernel: &mut Image, segment: &ProgramHeader) -> Result<u64, BootError> {
    let at = segment.p_paddr;
    let end = at.checked_add(segment.p_memsz.max(segment.p_filesz));
    let end = end.ok_or_else(|| kernel.bad(KernelFault::Beyond))?;
    let count = usize::try_from(segment.p_filesz).map_err(|_| kernel.bad(KernelFault::Beyond))?;
    let copied = kernel
        .file
        .seek(SeekFrom::Start(segment.p_offset))
        .map_err(|error| kernel.bad(error))
        .map(|_| memory.read_exact_volatile_from(GuestAddress(at), &mut kernel.file, count))?;
    copied.map_err(|error| {
        kernel.bad(KernelFault::Segment {
            count: segment.p_filesz,
            at,
            error,
        })
    })?;
    Ok(end)
}

/// Bytes of the file.
fn read_at(kernel: &mut Image, at: u64, size: usize) -> Result<Vec<u8>, BootError> {
    let mut bytes = vec![0; size];
    let read = kernel.file.seek(SeekFrom::Start(at));
    let read = read.and_then(|_| kernel.file.read_exact(&mut bytes));
    read.map_err(|error| kernel.bad(error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestMemoryBackend;

    use super::*;
    use crate::mem::{AddressSpace, RamBlock, Region, Topology};

    /// What a file is made of: kind, address and content of each segment.
    type Segments<'a> = &'a [(u32, u32, Vec<u8>)];

    fn note(name: &[u8; 4], kind: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = [4, u32::try_from(content.len()).unwrap(), kind]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        bytes.extend(name);
        bytes.extend(content);
        bytes
    }

    /// An ELF file of 32 bits, whose header says that it is for `machine` and that program headers have `entry_size` bytes.
    fn elf32(machine: u16, entry_size: u16, segments: Segments<'_>) -> Vec<u8> {
        let (half, word) = (u16::to_le_bytes, u32::to_le_bytes);
        let count = u16::try_from(segments.len()).unwrap();
        let mut offset = 52 + 32 * u32::from(count);
        let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend([half(2), half(machine)].concat());
        // Version, entry, program headers, section headers, flags.
        file.extend([1, 0, 52, 0, 0].map(word).concat());
        file.extend([52, entry_size, count, 0, 0, 0].map(half).concat());
        for (kind, at, content) in segments {
            let size = u32::try_from(content.len()).unwrap();
            // Twice as much memory as there is in the file.
            file.extend([*kind, offset, *at, *at, size, 2 * size, 7, 4].map(word).concat());
            offset += size;
        }
        segments.iter().for_each(|(.., content)| file.extend(content));
        file
    }

    /// Loads `file` into 64 KiB of memory; what is at 0x1000 comes with the result.
    fn loaded(file: &[u8]) -> (Result<Loaded, String>, [u8; 4]) {
        let path = std::env::temp_dir().join(format!("remuda-elf-{}-{}", std::process::id(), file.len()));
        std::fs::write(&path, file).unwrap();
        let ram = Region::ram(&RamBlock::anonymous("ram", 64 << 10).unwrap());
        let space = AddressSpace::new(&Topology::new(), &ram, 0xff);
        let memory = space.ram();
        let mut kernel = Image {
            file: std::fs::File::open(&path).unwrap(),
            path: path.clone(),
        };
        let result =
            load(&memory, &mut kernel).map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(memory.iter().count(), 1);
        let mut start = [0; 4];
        memory.read_slice(&mut start, GuestAddress(0x1000)).unwrap();
        (result, start)
    }

    #[test]
    fn the_entry_point_is_in_any_segment_of_notes() {
        let build_id = note(b"GNU\0", 3, &[1; 20]);
        let other = note(b"Xen\0", 17, &[9; 4]);
        for entry in [&0x1002_u32.to_le_bytes()[..], &0x1002_u64.to_le_bytes()] {
            let pvh = [other.clone(), note(b"Xen\0", 18, entry)].concat();
            for machine in [EM_386, EM_X86_64] {
                let file = elf32(
                    machine,
                    32,
                    &[
                        (PT_NOTE, 0, build_id.clone()),
                        (PT_LOAD, 0x1000, b"code".to_vec()),
                        (PT_NOTE, 0, pvh.clone()),
                    ],
                );
                let there = Loaded {
                    entry: 0x1002,
                    end: 0x1008,
                };
                assert_eq!(loaded(&file), (Ok(there), *b"code"));
            }
        }
    }

    #[test]
    fn what_cannot_be_loaded_is_said_with_the_reason() {
        let pvh = || (PT_NOTE, 0, note(b"Xen\0", 18, &0x1000_u32.to_le_bytes()));
        let code = (PT_LOAD, 0x1000, b"code".to_vec());
        for (file, reason) in [
            (
                elf32(EM_386, 32, std::slice::from_ref(&code)),
                "Error loading uncompressed kernel without PVH ELF Note",
            ),
            (elf32(EM_386, 56, &[pvh()]), "Invalid program header size"),
            (elf32(40, 32, &[pvh(), code]), "it is for another machine (40)"),
            (
                elf32(EM_386, 32, &[pvh(), (PT_LOAD, 0xfffe, b"code".to_vec())]),
                "a segment of 4 bytes for 0xfffe: ",
            ),
            (
                elf32(EM_386, 32, &[pvh()])[..60].to_vec(),
                "failed to fill whole buffer",
            ),
        ] {
            let error = loaded(&file).0.unwrap_err();
            let (start, rest) = error.split_at("invalid kernel image 'FILE': ".len());
            assert_eq!(start, "invalid kernel image 'FILE': ");
            assert!(rest.starts_with(reason), "{error}");
        }
    }
}
