//! Which pages of a block are still to be sent.

const BITS: usize = u64::BITS as usize;

/// A set of pages, by number.
#[derive(Debug)]
pub(super) struct PageSet {
    words: Vec<u64>,
    count: usize,
    /// No page below this word is in the set.
    from: usize,
}

impl PageSet {
    /// All of so many pages.
    pub(super) fn all(pages: usize) -> Self {
        let mut words = vec![u64::MAX; pages.div_ceil(BITS)];
        if let Some(last) = words.last_mut().filter(|_| pages % BITS != 0) {
            *last = (1 << (pages % BITS)) - 1;
        }
        Self {
            words,
            count: pages,
            from: 0,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Puts a page in. Those beyond the end are none of the block's.
    pub(super) fn insert(&mut self, page: usize) {
        let at = page / BITS;
        let Some(word) = self.words.get_mut(at) else { return };
        let bit = 1 << (page % BITS);
        if *word & bit == 0 {
            *word |= bit;
            self.count += 1;
            self.from = self.from.min(at);
        }
    }

    /// Takes the first page out.
    pub(super) fn take_first(&mut self) -> Option<usize> {
        while let Some(word) = self.words.get_mut(self.from) {
            if *word != 0 {
                let bit = word.trailing_zeros() as usize;
                *word &= *word - 1;
                self.count -= 1;
                return Some(self.from * BITS + bit);
            }
            self.from += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_in_order_and_once() {
        let mut set = PageSet::all(130);
        assert_eq!(set.len(), 130);
        assert!((0..130).all(|page| set.take_first() == Some(page)));
        assert_eq!((set.take_first(), set.len()), (None, 0));
        for page in [129, 3, 64, 3, 500] {
            set.insert(page);
        }
        assert_eq!(set.len(), 3);
        assert_eq!([3, 64, 129].map(Some), [(); 3].map(|()| set.take_first()));
    }
}
