//! A database's file as pages, read without redb: it refuses a damaged file, or panics on it. Nothing read here is believed
//! before its checksum is seen. The layout is redb's file format 3.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use twox_hash::XxHash3_128;

use super::tree::{Shape, leaf_end};
use crate::embedded::let_go;

/// The smallest page; others are this size times a power of two.
pub(super) const PAGE: u64 = 4096;
/// Of a page's size, as a power of two over the smallest: a row of the queue has 1 MiB at most. What names a larger one is
/// damage, and not worth the memory.
const LARGEST_ORDER: u64 = 11;
/// The commit slots lie behind a header of this size.
const SLOTS_AT: usize = 64;
const SLOT: usize = 128;
/// A slot's own checksum covers what is before it.
const SLOT_SUM_AT: usize = 112;
/// Pages of a region, unless the head can be read: as many as a page number can name.
const REGION_PAGES: u64 = 1 << 20;
/// Bits of a page's index.
const INDEX: u64 = 0xf_ffff;

/// Where a tree begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Root {
    /// Page number as it is stored.
    pub page: u64,
    pub sum: u128,
    /// Rows of the tree.
    pub rows: u64,
}

impl Root {
    /// From the 32 bytes that hold it.
    pub(super) fn read(bytes: &[u8]) -> Option<Root> {
        Some(Root { page: u64_at(bytes, 0)?, sum: u128_at(bytes, 8)?, rows: u64_at(bytes, 24)? })
    }
}

/// What is read.
enum Source {
    File(File),
    #[cfg(feature = "testing")]
    Memory(Vec<u8>),
}

impl Source {
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        match self {
            Source::File(file) => file.read_exact_at(bytes, at),
            #[cfg(feature = "testing")]
            Source::Memory(all) => {
                let from = at as usize;
                bytes.copy_from_slice(all.get(from..from + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

pub(super) struct Pages {
    source: Source,
    /// Bytes of the file.
    pub len: u64,
    region_header_pages: u64,
    region_pages: u64,
    /// The table of tables, by commit: the last one first, then the one before. A commit whose slot is damaged is not there.
    pub commits: Vec<Option<Root>>,
    /// The last commit's slot is damaged.
    pub last_is_lost: bool,
}

impl Pages {
    pub(super) fn open(path: &Path) -> io::Result<Pages> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        // Only the disk counts.
        let_go(&file);
        Pages::of(Source::File(file), len)
    }

    #[cfg(feature = "testing")]
    pub(super) fn of_bytes(bytes: Vec<u8>) -> io::Result<Pages> {
        let len = bytes.len() as u64;
        Pages::of(Source::Memory(bytes), len)
    }

    fn of(source: Source, len: u64) -> io::Result<Pages> {
        let mut head = vec![0; SLOTS_AT + 2 * SLOT];
        if len >= head.len() as u64 {
            source.read(&mut head, 0)?;
        }
        let number = |at: usize| head.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        let geometry = (number(16).unwrap_or_default(), number(20).unwrap_or_default());
        let (region_header_pages, region_pages) = match geometry {
            (header, pages) if header <= 1024 && pages > 0 && u64::from(pages) <= REGION_PAGES => {
                (u64::from(header), u64::from(pages))
            }
            _ => (0, REGION_PAGES),
        };
        let primary = usize::from(head[9] & 1);
        let slot = |which: usize| slot(&head[SLOTS_AT + which * SLOT..][..SLOT]);
        let (last, before) = (slot(primary), slot(1 - primary));
        let last_is_lost = last.is_none();
        let commits = [last, before].into_iter().flatten().collect();
        Ok(Pages { source, len, region_header_pages, region_pages, commits, last_is_lost })
    }

    /// Where a page lies; `None` for a number that names no page of this file.
    pub(super) fn place(&self, page: u64) -> Option<Range<u64>> {
        let order = page >> 59;
        if order > LARGEST_ORDER {
            return None;
        }
        let (index, region) = (page & (INDEX >> order), (page >> 20) & INDEX);
        let size = PAGE << order;
        let region_bytes = (self.region_header_pages + self.region_pages) * PAGE;
        let start = PAGE + region * region_bytes + self.region_header_pages * PAGE + index * size;
        Some(start..start + size)
    }

    /// A page of the file. One that ends behind the file's end is shorter than it was.
    pub(super) fn read(&self, place: Range<u64>) -> io::Result<Vec<u8>> {
        let end = place.end.min(self.len);
        let mut bytes = vec![0; end.saturating_sub(place.start) as usize];
        self.source.read(&mut bytes, place.start)?;
        Ok(bytes)
    }

    /// Shows whatever looks like a leaf, wherever it lies.
    pub(super) fn each_leaf(&self, shape: Shape, mut visit: impl FnMut(&[u8])) {
        let mut first = vec![0; PAGE as usize];
        for at in (PAGE..self.len.saturating_sub(PAGE - 1)).step_by(PAGE as usize) {
            if self.source.read(&mut first, at).is_err() {
                continue;
            }
            let Some(end) = leaf_end(&first, shape).filter(|end| *end as u64 <= PAGE << LARGEST_ORDER) else {
                continue;
            };
            match self.read(at..at + end as u64) {
                Ok(page) if page.len() == end => visit(&page),
                _ => {}
            }
        }
    }
}

/// The root of a sound commit slot; the outer `None` is a damaged one, the inner one a commit without tables.
fn slot(bytes: &[u8]) -> Option<Option<Root>> {
    let sound = u128_at(bytes, SLOT_SUM_AT)? == sum(&bytes[..SLOT_SUM_AT]);
    sound.then(|| if bytes[1] == 0 { None } else { Root::read(&bytes[8..40]) })
}

pub(super) fn sum(bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot(bytes)
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes).map(usize::from)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes).map(|n| n as usize)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

fn u128_at(bytes: &[u8], at: usize) -> Option<u128> {
    bytes.get(at..at + 16)?.try_into().ok().map(u128::from_le_bytes)
}
