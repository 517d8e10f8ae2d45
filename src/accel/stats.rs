//! Statistics as an accelerator reports them; the shape of QMP's `query-stats`.

/// How a statistic behaves over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatKind {
    /// Only ever grows.
    Cumulative,
    /// Goes up and down.
    Instant,
    /// The highest value seen.
    Peak,
    /// A histogram whose buckets are equally wide.
    LinearHistogram {
        /// Width of a bucket.
        bucket_size: u32,
    },
    /// A histogram whose buckets double in width.
    Log2Histogram,
}

/// What a statistic counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatUnit {
    /// A plain number.
    None,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Clock cycles.
    Cycles,
    /// Zero or one.
    Boolean,
}

/// Description of one statistic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its name, unique for its target.
    pub name: String,
    /// How it behaves.
    pub kind: StatKind,
    /// What it counts.
    pub unit: StatUnit,
    /// 2 or 10 when `exponent` is not zero: the value is in units of `base` to the power of `exponent`.
    pub base: u8,
    /// See `base`.
    pub exponent: i16,
}

/// A statistic and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatValue {
    /// What it is.
    pub stat: Stat,
    /// One value, or one for each bucket of a histogram.
    pub values: Vec<u64>,
}
