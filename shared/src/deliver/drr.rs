//! Which tier is served next: deficit round robin with credits in records [P4], as a pure function over the heads in hand.

/// Credits of one round for a weight of one, in records: near an envelope's usual size, so that a round serves about one
/// envelope a weight.
const QUANTUM: u64 = 500;
/// Weights of HIGH : NORMAL : LOW [P4].
pub const WEIGHTS: [u64; 3] = [3, 2, 1];
/// Weights of all four tiers while CRITICAL floods [P4].
pub const FLOOD_WEIGHTS: [u64; 4] = [6, 3, 2, 1];

/// Deficit round robin over `N` classes, most urgent first. Work-conserving: a class with nothing in hand keeps no credit.
#[derive(Debug, Clone)]
pub struct Drr<const N: usize> {
    weights: [u64; N],
    credits: [u64; N],
    at: usize,
    /// The class at `at` already got this round's credit.
    visited: bool,
}

impl<const N: usize> Drr<N> {
    /// A scheduler whose classes have these weights.
    pub fn new(weights: [u64; N]) -> Drr<N> {
        assert!(weights.iter().all(|&weight| weight > 0), "a weight of zero would starve its class");
        Drr { weights, credits: [0; N], at: 0, visited: false }
    }

    /// The class whose head is served now, its records paid from its credit; `None` when nothing is in hand.
    /// `heads`: records of each class's first envelope.
    pub fn next(&mut self, heads: [Option<u32>; N]) -> Option<usize> {
        if heads.iter().all(Option::is_none) {
            return None;
        }
        loop {
            match heads[self.at] {
                Some(records) => {
                    if !self.visited {
                        self.credits[self.at] += self.weights[self.at] * QUANTUM;
                        self.visited = true;
                    }
                    if let Some(rest) = self.credits[self.at].checked_sub(u64::from(records)) {
                        self.credits[self.at] = rest;
                        return Some(self.at);
                    }
                }
                None => self.credits[self.at] = 0,
            }
            self.at = (self.at + 1) % N;
            self.visited = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served<const N: usize>(weights: [u64; N], sizes: [u32; N], in_all: u64) -> [u64; N] {
        let mut drr = Drr::new(weights);
        let mut records = [0; N];
        while records.iter().sum::<u64>() < in_all {
            let class = drr.next(sizes.map(Some)).unwrap();
            records[class] += u64::from(sizes[class]);
        }
        records
    }

    #[test]
    fn p4_shares_are_counted_in_records_whatever_the_envelopes_sizes() {
        for sizes in [[500, 500, 500], [500, 1000, 1100], [1, 1000, 5000], [500, 3, 7]] {
            let records = served([3, 2, 1], sizes, 3_000_000);
            let total: u64 = records.iter().sum();
            for (class, share) in [(0, 3.0 / 6.0), (1, 2.0 / 6.0), (2, 1.0 / 6.0)] {
                let got = records[class] as f64 / total as f64;
                assert!(
                    (got - share).abs() < 0.01,
                    "sizes {sizes:?}: class {class} got {got:.3}, its share is {share:.3}"
                );
            }
        }
    }

    #[test]
    fn p4_in_a_flood_low_keeps_a_twelfth() {
        let records = served([6, 3, 2, 1], [1, 500, 1000, 1100], 3_000_000);
        let total: u64 = records.iter().sum();
        let low = records[3] as f64 / total as f64;
        assert!((low - 1.0 / 12.0).abs() < 0.005, "LOW got {low:.4}");
    }

    #[test]
    fn p4_is_work_conserving_and_an_idle_class_hoards_nothing() {
        let mut drr = Drr::new([3, 2, 1]);
        assert_eq!(drr.next([None, None, None]), None);
        for _ in 0..100 {
            assert_eq!(drr.next([None, None, Some(1100)]), Some(2), "the only one in hand is served");
        }
        let mut high = 0;
        for _ in 0..12 {
            high += usize::from(drr.next([Some(500), None, Some(500)]) == Some(0));
        }
        assert_eq!(high, 9, "HIGH and LOW share 3 : 1 from its return on");
    }

    #[test]
    fn the_same_heads_give_the_same_order() {
        let run = || {
            let mut drr = Drr::new([3, 2, 1]);
            (0..100).map(|i| drr.next([Some(400 + i), Some(900), Some(100)])).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }
}
