//! A guest leaves.
//!
//! Memory goes in passes while the guest runs: a pass sends what was written since the one before. Once what is left goes
//! within the time that the guest may be stopped, whoever has the guest stops it, and the rest follows.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::channel::Channel;
use super::error::MigrationError;
use super::pages::PageSet;
use super::progress::{Limits, Progress};
use super::wire::{PAGE, answer};
use super::{ram, write};
use crate::machine::saved::StreamMemory;
use crate::mem::DirtyLog;
use crate::vmstate::SavedSection;

/// How often it is measured how fast it goes, and for how long a share of the bandwidth counts.
const WINDOW: Duration = Duration::from_millis(100);
/// Bytes that are written at once, at least and at most.
const CHUNKS: (u64, u64) = (PAGE as u64, 1 << 20);

/// What the stream is to be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the machine.
    pub machine: String,
    /// The machine's releases know of the guest's stop.
    pub tells_switchover: bool,
    /// The other side is asked how it went.
    pub return_path: bool,
}

/// What is to be told to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The other side is there, and memory goes.
    Active,
    /// It was looked so often what the guest wrote.
    Pass(u64),
}

/// A guest that leaves.
pub struct Outgoing {
    channel: Channel,
    memory: StreamMemory,
    options: Options,
    limits: Arc<Limits>,
    progress: Arc<Progress>,
    news: UnboundedSender<News>,
    /// For each block, what is to be sent, and who knows what is written.
    pages: Vec<PageSet>,
    logs: Vec<DirtyLog>,
    /// The block of the last record.
    last: Option<usize>,
    buffer: Vec<u8>,
    pace: Pace,
}

impl Outgoing {
    /// Begins to watch the guest's memory, and the stream.
    ///
    /// # Errors
    /// The guest's writes cannot be watched, or the channel failed.
    pub fn start(
        channel: Channel,
        memory: StreamMemory,
        options: Options,
        limits: Arc<Limits>,
        progress: Arc<Progress>,
        news: UnboundedSender<News>,
    ) -> Result<Self, MigrationError> {
        let pages = |len: u64| PageSet::all(usize::try_from(len.div_ceil(PAGE as u64)).unwrap_or(usize::MAX));
        let logs = memory
            .blocks
            .iter()
            .map(|block| DirtyLog::new(&memory.space, &block.block));
        let mut outgoing = Self {
            pages: memory.blocks.iter().map(|block| pages(block.len)).collect(),
            logs: logs.collect::<Result<_, _>>()?,
            channel,
            memory,
            options,
            limits,
            progress,
            news,
            last: None,
            buffer: Vec::new(),
            pace: Pace::new(),
        };
        let total = outgoing.memory.blocks.iter().map(|block| block.len).sum();
        Progress::set(&outgoing.progress.total, total);
        Progress::set(&outgoing.progress.syncs, 1);
        outgoing.count_remaining();
        write::begin(&mut outgoing.buffer, &outgoing.options.machine);
        if outgoing.options.return_path {
            write::open_return_path(&mut outgoing.buffer);
        }
        write::ram_start(&mut outgoing.buffer, &outgoing.memory.blocks);
        outgoing.flush()?;
        Ok(outgoing)
    }

    /// Sends memory while the guest runs, until what is left goes within the time that it may be stopped.
    ///
    /// # Errors
    /// The channel failed, or it was told to end.
    pub fn precopy(&mut self) -> Result<(), MigrationError> {
        self.tell(News::Active);
        loop {
            while self.left() > 0 && !self.seems_done() {
                self.send_part()?;
            }
            self.pace.measure(&self.progress);
            let before = self.left();
            let found = self.sync()?;
            self.tell(News::Pass(Progress::get(&self.progress.syncs)));
            self.pace.dirtied(&self.progress, found - before);
            if self.left() == 0 || self.seems_done() {
                let sent = Progress::get(&self.progress.transferred);
                Progress::set(&self.progress.precopy_bytes, sent);
                return Ok(());
            }
        }
    }

    /// Sends what is left, and the devices. The guest is stopped. Returns once the other side has it all, as far as it says.
    ///
    /// It can be told to end until the devices are sent. From then on the other side may have the guest and run it, and only
    /// its answer, or its end, tells whether this side has it still.
    ///
    /// # Errors
    /// The channel failed, it was told to end, or the other side could not take the guest over.
    pub fn finish(mut self, sections: &[SavedSection]) -> Result<(), MigrationError> {
        let before = Progress::get(&self.progress.transferred);
        self.sync()?;
        if self.options.tells_switchover {
            write::switchover(&mut self.buffer);
        }
        write::ram_part(&mut self.buffer, true);
        while self.send_page()? {
            if self.buffer.len() as u64 >= CHUNKS.1 {
                self.flush()?;
            }
        }
        write::end_of_ram(&mut self.buffer);
        self.flush()?;
        let committed = self.channel.commit();
        committed.map_err(|error| MigrationError::io("sending the guest", error))?;
        write::devices(&mut self.buffer, &self.options.machine, sections);
        self.flush()?;
        self.pace.measure(&self.progress);
        let sent = Progress::get(&self.progress.transferred);
        Progress::set(&self.progress.downtime_bytes, sent - before);
        if self.options.return_path {
            self.hear()?;
        }
        Ok(())
    }

    /// What the other side says, up to how it went.
    fn hear(&mut self) -> Result<(), MigrationError> {
        loop {
            let mut head = [0; 4];
            self.hear_bytes(&mut head)?;
            let [a, b, c, d] = head;
            let mut data = vec![0; usize::from(u16::from_be_bytes([c, d]))];
            self.hear_bytes(&mut data)?;
            match (u16::from_be_bytes([a, b]), data.as_slice()) {
                (answer::PONG, [_, _, _, _]) => {}
                (answer::SHUT, [0, 0, 0, 0]) => return Ok(()),
                (answer::SHUT, &[a, b, c, d]) => {
                    return Err(MigrationError::Refused(u32::from_be_bytes([a, b, c, d])));
                }
                (number, _) => {
                    let what = format!("the other side says what means nothing (message {number})");
                    return Err(MigrationError::Unknown(what));
                }
            }
        }
    }

    fn hear_bytes(&mut self, bytes: &mut [u8]) -> Result<(), MigrationError> {
        let read = self.channel.read_exact(bytes);
        read.map_err(|error| MigrationError::io("waiting for the other side", error))
    }

    /// Pages that are left.
    fn left(&self) -> usize {
        self.pages.iter().map(PageSet::len).sum()
    }

    fn count_remaining(&self) {
        Progress::set(&self.progress.remaining, (self.left() * PAGE) as u64);
    }

    /// Whether what is left goes within the time that the guest may be stopped, as far as is known.
    fn seems_done(&self) -> bool {
        let bandwidth = match Progress::get(&self.limits.switchover_bandwidth) {
            0 => Progress::get(&self.progress.bandwidth),
            known => known,
        };
        let goes = u128::from(bandwidth) * u128::from(Progress::get(&self.limits.downtime_limit)) / 1000;
        (self.left() * PAGE) as u128 <= goes
    }

    /// Looks what the guest wrote. Returns how many pages there are to be sent now.
    fn sync(&mut self) -> Result<usize, MigrationError> {
        for (log, pages) in self.logs.iter().zip(&mut self.pages) {
            log.take()?.into_iter().for_each(|page| pages.insert(page));
        }
        Progress::add(&self.progress.syncs, 1);
        self.count_remaining();
        Ok(self.left())
    }

    /// Sends pages, as many as are written at once.
    fn send_part(&mut self) -> Result<(), MigrationError> {
        let share = Progress::get(&self.limits.max_bandwidth) / 10;
        let chunk = match share {
            0 => CHUNKS.1,
            share => share.clamp(CHUNKS.0, CHUNKS.1),
        };
        write::ram_part(&mut self.buffer, false);
        while (self.buffer.len() as u64) < chunk && self.send_page()? {}
        write::end_of_ram(&mut self.buffer);
        let sent = self.buffer.len() as u64;
        self.flush()?;
        self.count_remaining();
        if self.pace.is_over() {
            self.pace.measure(&self.progress);
        }
        let kept = self.pace.keep(sent, share, self.channel.cancel());
        kept.map_err(|error| MigrationError::io("keeping to the bandwidth", error))
    }

    /// Puts a page into the buffer. Returns whether there was one.
    fn send_page(&mut self) -> Result<bool, MigrationError> {
        let mut blocks = self.pages.iter_mut().enumerate();
        let next = blocks.find_map(|(index, pages)| Some((index, pages.take_first()?)));
        let Some((index, number)) = next else {
            return Ok(false);
        };
        let block = &self.memory.blocks[index];
        let address = (number * PAGE) as u64;
        if address >= block.len {
            // Written beyond what the stream has of it.
            return Ok(true);
        }
        let mut page = [0; PAGE];
        let content = ram::fetch(block, address, &mut page)?;
        let name = (self.last != Some(index)).then_some(block.name.as_str());
        write::page(&mut self.buffer, name, address, content);
        self.last = Some(index);
        let counter = match content {
            Some(_) => &self.progress.normal_pages,
            None => &self.progress.zero_pages,
        };
        Progress::add(counter, 1);
        self.pace.pages += 1;
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), MigrationError> {
        let sent = self.channel.write_all(&self.buffer);
        sent.map_err(|error| MigrationError::io("sending the guest", error))?;
        Progress::add(&self.progress.transferred, self.buffer.len() as u64);
        self.pace.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn tell(&self, news: News) {
        // Whoever has the guest may be ending.
        let _ = self.news.send(news);
    }
}

/// How fast it goes.
struct Pace {
    /// Since when the next two count.
    since: Instant,
    bytes: u64,
    pages: u64,
    /// When it was last looked what the guest wrote.
    looked: Instant,
    /// The share of the bandwidth: since when, and how much of it is used.
    share_since: Instant,
    used: u64,
}

impl Pace {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            since: now,
            bytes: 0,
            pages: 0,
            looked: now,
            share_since: now,
            used: 0,
        }
    }

    /// Whether it is time to measure.
    fn is_over(&self) -> bool {
        self.since.elapsed() >= WINDOW
    }

    fn measure(&mut self, progress: &Progress) {
        if self.bytes == 0 {
            return;
        }
        Progress::set(&progress.bandwidth, per_second(self.bytes, self.since.elapsed()));
        Progress::set(&progress.page_rate, per_second(self.pages, self.since.elapsed()));
        (self.since, self.bytes, self.pages) = (Instant::now(), 0, 0);
    }

    fn dirtied(&mut self, progress: &Progress, pages: usize) {
        Progress::set(&progress.dirty_rate, per_second(pages as u64, self.looked.elapsed()));
        self.looked = Instant::now();
    }

    /// Waits if more than `share` bytes went within the window; 0 stands for any number.
    fn keep(&mut self, sent: u64, share: u64, cancel: &super::Cancel) -> std::io::Result<()> {
        let elapsed = self.share_since.elapsed();
        if elapsed >= WINDOW {
            (self.share_since, self.used) = (Instant::now(), 0);
        }
        self.used += sent;
        if share == 0 || self.used < share {
            return Ok(());
        }
        cancel.sleep(WINDOW.saturating_sub(self.share_since.elapsed()))?;
        (self.share_since, self.used) = (Instant::now(), 0);
        Ok(())
    }
}

fn per_second(count: u64, time: Duration) -> u64 {
    let microseconds = time.as_micros().max(1);
    u64::try_from(u128::from(count) * 1_000_000 / microseconds).unwrap_or(u64::MAX)
}
