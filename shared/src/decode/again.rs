//! Names that one object or table gives again: each value is kept, under a name of its own that nothing understands, so that it is
//! told of and not lost [S9]. A name given many times makes no longer names for it, or the last ones would fill the memory [A6].

use std::collections::BTreeMap;

/// How often each name was given again so far.
#[derive(Default)]
pub(crate) struct Again(BTreeMap<String, u32>);

impl Again {
    /// `name`, or one made of it that is not taken yet.
    pub(crate) fn free(&mut self, name: String, is_taken: impl Fn(&str) -> bool) -> String {
        if !is_taken(&name) {
            return name;
        }
        let again = format!("{name} given again");
        let times = self.0.entry(name).or_default();
        loop {
            *times += 1;
            let free = if *times == 1 { again.clone() } else { format!("{again}, {times}") };
            if !is_taken(&free) {
                return free;
            }
        }
    }
}
