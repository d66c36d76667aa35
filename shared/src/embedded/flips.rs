//! Rows on the disk in memory of which one bit is another than was written, as failing hardware does it: for simulation.

use bytes::Bytes;

use super::{BODIES, Embedded, Failed, ITEMS, MemoryDisk, sealed};
use crate::queue::QueueRef;
use crate::time::Rng;

impl Embedded {
    /// Turns over one bit of a message of a queue, both drawn from `rng`; gives its body as it was and as it stands there now.
    /// `None`: nothing is queued, or nothing of it can be read.
    pub fn turn_body(&self, disk: &MemoryDisk, of: &QueueRef, rng: &Rng) -> Option<(Bytes, Bytes)> {
        let rows = self.shared().database().read(|tx| {
            let table = tx.open_table(BODIES)?;
            let rows = table.range((of.as_str(), 0)..=(of.as_str(), u64::MAX))?;
            rows.map(|row| Ok(row?.1.value().to_vec())).collect()
        });
        turn(disk, rows, rng)
    }

    /// The same with an item of a partition.
    pub fn turn_item(&self, disk: &MemoryDisk, partition: &str, rng: &Rng) -> Option<(Bytes, Bytes)> {
        let rows = self.shared().database().read(|tx| {
            let table = tx.open_table(ITEMS)?;
            let mut rows = Vec::new();
            for row in table.range((partition, "")..)? {
                let (key, row) = row?;
                if key.value().0 != partition {
                    break;
                }
                rows.push(row.value().2.to_vec());
            }
            Ok(rows)
        });
        turn(disk, rows, rng)
    }
}

fn turn(disk: &MemoryDisk, rows: Result<Vec<Vec<u8>>, Failed>, rng: &Rng) -> Option<(Bytes, Bytes)> {
    let rows = rows.ok()?;
    let drawn = |below: usize| (u64::from_le_bytes(rng.bytes()) % below as u64) as usize;
    let row = rows.get(drawn(rows.len().max(1)))?;
    let mut turned = row.clone();
    let bit = drawn(row.len() * 8);
    turned[bit / 8] ^= 1 << (bit % 8);
    let value = |row: &[u8]| Bytes::copy_from_slice(sealed::unchecked(row));
    disk.turn(row, &turned).then(|| (value(row), value(&turned)))
}
