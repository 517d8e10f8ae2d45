//! Reads, and what is where.

use std::sync::{Arc, PoisonError};

use super::super::{BlockError, Extent, IoBuffer};
use super::entry::Compressed;
use super::image::Qcow2;
use super::tables::Source;

impl Qcow2 {
    /// Fills a buffer with what the guest sees at `offset`. Beyond the end of its disk are zeroes.
    pub(super) async fn read_guest(&self, offset: u64, into: &IoBuffer) -> Result<(), BlockError> {
        // What is found in the tables stays there until the request ends.
        let _stays = self.tables().frees.guard();
        let within = self.size().saturating_sub(offset).min(into.len() as u64) as usize;
        if within < into.len() {
            into.slice(within..into.len()).fill(0);
        }
        let mut at = 0;
        while at < within {
            let guest = offset + at as u64;
            let most = (within - at) as u64;
            let (source, bytes) = self.look_up(guest, |tables| tables.source(guest, most)).await?;
            let end = at + bytes as usize;
            let part = into.slice(at..end);
            match source {
                Source::Data(host) => self.data.read(host, part).await?,
                Source::Zero => part.fill(0),
                Source::Backing => self.read_backing(guest, &part).await?,
                Source::Compressed(compressed) => self.read_compressed(guest, compressed, &part).await?,
            }
            at = end;
        }
        Ok(())
    }

    async fn read_backing(&self, guest: u64, into: &IoBuffer) -> Result<(), BlockError> {
        let Some(backing) = &self.backing else {
            into.fill(0);
            return Ok(());
        };
        let within = backing.length().saturating_sub(guest).min(into.len() as u64) as usize;
        into.slice(within..into.len()).fill(0);
        match within {
            0 => Ok(()),
            _ => backing.read(guest, into.slice(0..within)).await,
        }
    }

    async fn read_compressed(&self, guest: u64, data: Compressed, into: &IoBuffer) -> Result<(), BlockError> {
        let cluster = self.unpack(data).await?;
        let from = self.geometry.in_cluster(guest) as usize;
        into.copy_from(&cluster[from..from + into.len()]);
        Ok(())
    }

    /// The data of a compressed cluster.
    async fn unpack(&self, data: Compressed) -> Result<Arc<Vec<u8>>, BlockError> {
        let known = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((host, bytes)) = known {
            if host == data.host {
                return Ok(bytes);
            }
        }
        let buffer = IoBuffer::zeroed(data.bytes as usize);
        self.file.read(data.host, buffer.clone()).await?;
        let (compression, size) = (self.compression, self.geometry.cluster_size() as usize);
        let unpacked = self
            .pool
            .run(move || Ok(compression.decompress(&buffer.to_vec(), size)))
            .await?;
        let Some(bytes) = unpacked.map(Arc::new) else {
            return Err(BlockError::Corrupt {
                what: format!("compressed cluster at {:#x} cannot be decompressed", data.host),
                offset: Some(data.host),
            });
        };
        let mut last = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((data.host, Arc::clone(&bytes)));
        Ok(bytes)
    }

    /// Whether the guest sees zeroes in all of a range, as far as that is known without reading data.
    pub(super) async fn reads_zero(&self, offset: u64, bytes: u64) -> Result<bool, BlockError> {
        let end = (offset + bytes).min(self.size());
        let mut at = offset;
        while at < end {
            let (source, run) = self.look_up(at, |tables| tables.source(at, end - at)).await?;
            let zero = match source {
                Source::Zero => true,
                Source::Backing => self.backing.as_ref().is_none_or(|backing| backing.length() <= at),
                Source::Data(_) | Source::Compressed(_) => false,
            };
            if !zero {
                return Ok(false);
            }
            at += run;
        }
        Ok(true)
    }

    pub(super) async fn status_of(&self, offset: u64, bytes: u64) -> Result<Extent, BlockError> {
        let within = self.size().saturating_sub(offset).min(bytes);
        if within == 0 {
            return Ok(Extent::zeroes(bytes));
        }
        let (source, bytes) = self.look_up(offset, |tables| tables.source(offset, within)).await?;
        Ok(match source {
            Source::Data(host) => Extent::stored(bytes, host),
            Source::Zero => Extent::zeroes(bytes),
            Source::Compressed(_) => Extent {
                bytes,
                data: true,
                zero: false,
                allocated: true,
                offset: None,
            },
            Source::Backing => Extent {
                bytes,
                data: false,
                zero: self.backing.is_none(),
                allocated: false,
                offset: None,
            },
        })
    }
}
