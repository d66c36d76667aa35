//! One table's tree, walked whatever is damaged in it: a page that is not what was written costs its own rows. The children
//! of a damaged branch are still found where their own checksums hold.

use std::ops::Range;

use super::pages::{Pages, Root, sum, u16_at, u32_at, u64_at};

/// Widths of keys and values that all have the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub key: Option<usize>,
    pub value: Option<usize>,
}

/// What a walk meets, in the order of the keys.
pub(super) enum Step<'a> {
    /// `sound`: its page is what was written. Where it is not, the row may be none.
    Row { key: &'a [u8], value: &'a [u8], sound: bool },
    /// Rows behind `after` and up to `until` are not there to be read; `None` is the table's end. What could still be made
    /// out of the bytes came as rows that are not sound.
    Lost { bytes: Range<u64>, after: Option<&'a [u8]>, until: Option<&'a [u8]> },
}

const LEAF: u8 = 1;
const BRANCH: u8 = 2;
/// Deeper than any tree: what is deeper is damage.
const DEPTH: usize = 40;

type Bounds<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

pub(super) fn walk(pages: &Pages, root: Root, shape: Shape, visit: &mut dyn FnMut(Step<'_>)) {
    node(pages, (root.page, root.sum), shape, (None, None), DEPTH, visit);
}

fn node(
    pages: &Pages,
    (number, expected): (u64, u128),
    shape: Shape,
    bounds: Bounds<'_>,
    depth: usize,
    visit: &mut dyn FnMut(Step<'_>),
) {
    let Some(place) = pages.place(number) else {
        return visit(Step::Lost { bytes: 0..0, after: bounds.0, until: bounds.1 });
    };
    let lost = |visit: &mut dyn FnMut(Step<'_>)| {
        visit(Step::Lost { bytes: place.clone(), after: bounds.0, until: bounds.1 });
    };
    let Ok(page) = pages.read(place.clone()) else { return lost(visit) };
    let sound = is_sound(&page, shape, expected);
    match page.first() {
        Some(&LEAF) => {
            each_entry(&page, shape, |key, value| visit(Step::Row { key, value, sound }));
            if !sound {
                lost(visit);
            }
        }
        Some(&BRANCH) if sound && depth > 0 => {
            let children = children(&page, shape).unwrap_or_default();
            for (i, &child) in children.list.iter().enumerate() {
                let after = i.checked_sub(1).and_then(|i| children.keys.get(i).copied()).or(bounds.0);
                let until = children.keys.get(i).copied().or(bounds.1);
                node(pages, child, shape, (after, until), depth - 1, visit);
            }
        }
        // Its keys cannot be believed, nor a child without its checksum.
        Some(&BRANCH) if depth > 0 => {
            for &child in &children(&page, shape).unwrap_or_default().list {
                if pages
                    .place(child.0)
                    .and_then(|place| pages.read(place).ok())
                    .is_some_and(|page| is_sound(&page, shape, child.1))
                {
                    node(pages, child, shape, bounds, depth - 1, visit);
                }
            }
            lost(visit);
        }
        _ => lost(visit),
    }
}

/// Whether a page is what was written: the checksum covers it up to its last row or key.
fn is_sound(page: &[u8], shape: Shape, expected: u128) -> bool {
    let end = match page.first() {
        Some(&LEAF) => leaf_end(page, shape),
        Some(&BRANCH) => branch_end(page, shape),
        _ => None,
    };
    end.and_then(|end| page.get(..end)).is_some_and(|covered| sum(covered) == expected)
}

/// Bytes of a leaf's rows; `None` for what is no leaf.
pub(super) fn leaf_end(bytes: &[u8], shape: Shape) -> Option<usize> {
    bytes.first().filter(|&&kind| kind == LEAF)?;
    let last = u16_at(bytes, 2)?.checked_sub(1)?;
    Leaf::of(bytes, shape)?.value_end(last)
}

fn branch_end(bytes: &[u8], shape: Shape) -> Option<usize> {
    let keys = u16_at(bytes, 2)?;
    key_end(bytes, shape, keys, keys.checked_sub(1)?)
}

struct Leaf<'a> {
    bytes: &'a [u8],
    shape: Shape,
    count: usize,
}

impl<'a> Leaf<'a> {
    fn of(bytes: &'a [u8], shape: Shape) -> Option<Leaf<'a>> {
        Some(Leaf { bytes, shape, count: u16_at(bytes, 2)? })
    }

    fn keys_start(&self) -> usize {
        let tables = usize::from(self.shape.key.is_none()) + usize::from(self.shape.value.is_none());
        4 + 4 * self.count * tables
    }

    fn key_end(&self, n: usize) -> Option<usize> {
        match self.shape.key {
            Some(width) => Some(self.keys_start() + width * (n + 1)),
            None => u32_at(self.bytes, 4 + 4 * n),
        }
    }

    fn value_end(&self, n: usize) -> Option<usize> {
        match self.shape.value {
            Some(width) => Some(self.key_end(self.count.checked_sub(1)?)? + width * (n + 1)),
            None => {
                let before = if self.shape.key.is_none() { 4 * self.count } else { 0 };
                u32_at(self.bytes, 4 + before + 4 * n)
            }
        }
    }

    fn entry(&self, n: usize) -> Option<(&'a [u8], &'a [u8])> {
        let key_start = if n == 0 { self.keys_start() } else { self.key_end(n - 1)? };
        let value_start = if n == 0 { self.key_end(self.count.checked_sub(1)?)? } else { self.value_end(n - 1)? };
        Some((self.bytes.get(key_start..self.key_end(n)?)?, self.bytes.get(value_start..self.value_end(n)?)?))
    }
}

fn each_entry<'a>(bytes: &'a [u8], shape: Shape, mut visit: impl FnMut(&'a [u8], &'a [u8])) {
    let Some(leaf) = Leaf::of(bytes, shape) else { return };
    (0..leaf.count).filter_map(|n| leaf.entry(n)).for_each(|(key, value)| visit(key, value));
}

/// The rows of any page that looks like a leaf, whether or not a tree still leads to it.
pub(super) fn rows_of_page(bytes: &[u8], shape: Shape, visit: impl FnMut(&[u8], &[u8])) {
    if bytes.first() == Some(&LEAF) {
        each_entry(bytes, shape, visit);
    }
}

#[derive(Default)]
struct Children<'a> {
    /// Page number and checksum of each.
    list: Vec<(u64, u128)>,
    /// The key up to which each of them goes, but for the last.
    keys: Vec<&'a [u8]>,
}

fn key_end(bytes: &[u8], shape: Shape, keys: usize, n: usize) -> Option<usize> {
    let fixed = 8 + 24 * (keys + 1);
    match shape.key {
        Some(width) => Some(fixed + width * (n + 1)),
        None => u32_at(bytes, fixed + 4 * n),
    }
}

fn children(bytes: &[u8], shape: Shape) -> Option<Children<'_>> {
    let count = u16_at(bytes, 2)?;
    let mut list = Vec::with_capacity(count + 1);
    for n in 0..=count {
        let at = 8 + 16 * n;
        let sum = bytes.get(at..at + 16)?.try_into().ok().map(u128::from_le_bytes)?;
        list.push((u64_at(bytes, 8 + 16 * (count + 1) + 8 * n)?, sum));
    }
    let mut start = 8 + 24 * (count + 1) + if shape.key.is_none() { 4 * count } else { 0 };
    let mut keys = Vec::with_capacity(count);
    for n in 0..count {
        let Some(end) = key_end(bytes, shape, count, n) else { break };
        let Some(key) = bytes.get(start..end) else { break };
        keys.push(key);
        start = end;
    }
    Some(Children { list, keys })
}
