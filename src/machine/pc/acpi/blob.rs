//! Tables that point to each other, before it is known where they will lie.

/// Names of the files firmware takes the tables from.
const TABLES_FILE: &str = "etc/acpi/tables";
const RSDP_FILE: &str = "etc/acpi/rsdp";

/// Offset of a table's checksum byte.
const CHECKSUM: usize = 9;
/// Size of the root pointer, revision 2.
const RSDP_SIZE: usize = 36;
/// Offset of the root pointer's 64-bit address.
const RSDP_XSDT: usize = 24;
/// The part of the root pointer that its first checksum covers.
const RSDP_V1_SIZE: usize = 20;
const RSDP_V1_CHECKSUM: usize = 8;
const RSDP_CHECKSUM: usize = 32;

/// All tables in one piece. Pointers between them hold offsets until [`Blob::place`] or firmware makes them addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blob {
    tables: Vec<u8>,
    rsdp: Vec<u8>,
    pointers: Vec<(usize, u8)>,
    checksums: Vec<(usize, usize)>,
}

impl Blob {
    /// Adds a table with a header. Returns its offset.
    pub(super) fn add(&mut self, table: &acpi_tables::sdt::Sdt) -> usize {
        let at = self.add_raw(table.as_slice(), 16);
        self.checksums.push((at, table.len()));
        at
    }

    /// Adds bytes without a checksum. Returns their offset.
    pub(super) fn add_raw(&mut self, bytes: &[u8], align: usize) -> usize {
        let at = self.tables.len().next_multiple_of(align);
        self.tables.resize(at, 0);
        self.tables.extend_from_slice(bytes);
        at
    }

    /// Makes the `size` bytes at offset `at` a pointer to the table at offset `target`.
    pub(super) fn point(&mut self, at: usize, size: u8, target: usize) {
        let bytes = u64::try_from(target).unwrap_or_default().to_le_bytes();
        let size_usize = usize::from(size);
        self.tables[at..at + size_usize].copy_from_slice(&bytes[..size_usize]);
        self.pointers.push((at, size));
    }

    /// Makes the root pointer, to the table at offset `xsdt`.
    pub(super) fn finish(&mut self, xsdt: usize, oem_id: [u8; 6]) {
        let mut rsdp = b"RSD PTR ".to_vec();
        rsdp.push(0);
        rsdp.extend(oem_id);
        rsdp.push(2);
        rsdp.extend([0; 4]);
        rsdp.extend(u32::try_from(RSDP_SIZE).unwrap_or_default().to_le_bytes());
        rsdp.extend(u64::try_from(xsdt).unwrap_or_default().to_le_bytes());
        rsdp.resize(RSDP_SIZE, 0);
        self.rsdp = rsdp;
    }

    /// Bytes of all tables.
    pub(crate) fn len(&self) -> usize {
        self.tables.len()
    }

    /// The root pointer and the tables as they have to be for the tables to lie at `base`.
    pub(crate) fn place(&self, base: u64) -> (Vec<u8>, Vec<u8>) {
        let (mut rsdp, mut tables) = (self.rsdp.clone(), self.tables.clone());
        for (at, size) in &self.pointers {
            add_base(&mut tables, *at, usize::from(*size), base);
        }
        for (at, len) in &self.checksums {
            checksum(&mut tables[*at..*at + *len], CHECKSUM);
        }
        add_base(&mut rsdp, RSDP_XSDT, 8, base);
        checksum(&mut rsdp[..RSDP_V1_SIZE], RSDP_V1_CHECKSUM);
        checksum(&mut rsdp, RSDP_CHECKSUM);
        (rsdp, tables)
    }

    /// The files firmware takes: names and contents, with the script that tells it how to put them together.
    pub(crate) fn firmware_files(&self) -> [(&'static str, Vec<u8>); 3] {
        let mut tables = self.tables.clone();
        for (at, _) in &self.checksums {
            tables[*at + CHECKSUM] = 0;
        }
        [
            (TABLES_FILE, tables),
            (RSDP_FILE, self.rsdp.clone()),
            ("etc/table-loader", self.loader_script()),
        ]
    }

    fn loader_script(&self) -> Vec<u8> {
        let mut script = Script::default();
        script.allocate(TABLES_FILE, 64, Zone::High);
        script.allocate(RSDP_FILE, 16, Zone::FSegment);
        for (at, size) in &self.pointers {
            script.add_pointer(TABLES_FILE, TABLES_FILE, *at, *size);
        }
        for (at, len) in &self.checksums {
            script.add_checksum(TABLES_FILE, *at + CHECKSUM, *at, *len);
        }
        script.add_pointer(RSDP_FILE, TABLES_FILE, RSDP_XSDT, 8);
        script.add_checksum(RSDP_FILE, RSDP_V1_CHECKSUM, 0, RSDP_V1_SIZE);
        script.add_checksum(RSDP_FILE, RSDP_CHECKSUM, 0, RSDP_SIZE);
        script.0
    }
}

fn add_base(bytes: &mut [u8], at: usize, size: usize, base: u64) {
    let mut word = [0; 8];
    word[..size].copy_from_slice(&bytes[at..at + size]);
    let address = u64::from_le_bytes(word).wrapping_add(base).to_le_bytes();
    bytes[at..at + size].copy_from_slice(&address[..size]);
}

fn checksum(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[at] = sum.wrapping_neg();
}

/// Where firmware puts a file.
#[derive(Clone, Copy)]
enum Zone {
    /// Anywhere.
    High = 1,
    /// In the BIOS segment, where the root pointer is searched.
    FSegment = 2,
}

/// Commands for the firmware: 128 bytes each, little endian, names of 56 bytes.
#[derive(Default)]
struct Script(Vec<u8>);

impl Script {
    const RECORD: usize = 128;
    const NAME: usize = 56;

    fn allocate(&mut self, file: &str, align: u32, zone: Zone) {
        let mut record = Record::new(1);
        record.name(file);
        record.bytes(&align.to_le_bytes());
        record.bytes(&[zone as u8]);
        self.0.extend(record.finish());
    }

    fn add_pointer(&mut self, file: &str, target: &str, at: usize, size: u8) {
        let mut record = Record::new(2);
        record.name(file);
        record.name(target);
        record.bytes(&offset(at));
        record.bytes(&[size]);
        self.0.extend(record.finish());
    }

    fn add_checksum(&mut self, file: &str, at: usize, start: usize, len: usize) {
        let mut record = Record::new(3);
        record.name(file);
        for number in [at, start, len] {
            record.bytes(&offset(number));
        }
        self.0.extend(record.finish());
    }
}

fn offset(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or_default().to_le_bytes()
}

struct Record(Vec<u8>);

impl Record {
    fn new(command: u32) -> Self {
        Self(command.to_le_bytes().to_vec())
    }

    fn name(&mut self, name: &str) {
        let end = self.0.len() + Script::NAME;
        self.0.extend(name.bytes());
        self.0.resize(end, 0);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.resize(Script::RECORD, 0);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_has_whole_records_and_names_both_files() {
        let mut blob = Blob::default();
        let at = blob.add_raw(&[0; 40], 16);
        blob.point(at + 8, 4, 0);
        blob.finish(at, *b"BOCHS ");
        let [(_, tables), (_, rsdp), (name, script)] = blob.firmware_files();
        assert_eq!((tables.len(), rsdp.len(), name), (40, 36, "etc/table-loader"));
        assert_eq!(script.len(), 6 * 128);
        let commands: Vec<_> = script.chunks(128).map(|record| record[0]).collect();
        assert_eq!(commands, [1, 1, 2, 2, 3, 3]);
        assert!(script[4..].starts_with(b"etc/acpi/tables\0"));
        assert_eq!(script[128 + 64], 2, "the root pointer goes into the BIOS segment");
    }
}
