//! libFuzzer's target, built with coverage by `tests/fuzz`, which says what the variables are.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod fuzzing {
    use std::env::var;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
    use peak_alloc::PeakAlloc;
    use streammanager_fuzz::laws::{allowed, hold, memory};
    use streammanager_fuzz::target::{Target, names};
    use streammanager_fuzz::{mutation, seeds};

    #[global_allocator]
    static ALLOCATOR: PeakAlloc = PeakAlloc;

    static TARGET: OnceLock<Target> = OnceLock::new();
    /// The most bytes of memory a thousand bytes of an input took.
    static WORST: AtomicUsize = AtomicUsize::new(0);
    /// Shorter inputs show what every decoder takes, not what a byte does.
    const TELLING: usize = 1_000;

    fuzz_target!(init: begin(), |bytes: &[u8]| one(bytes));

    fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
        let kept = match seed % 16 {
            0 => mutation::amplified(&data[..size], max_size, u64::from(seed)),
            1..8 => mutation::mutated(&data[..size], u64::from(seed)),
            _ => None,
        };
        match kept.filter(|made| made.len() <= max_size && !made.is_empty()) {
            Some(made) => {
                data[..made.len()].copy_from_slice(&made);
                made.len()
            }
            None => fuzzer_mutate(data, size, max_size),
        }
    });

    /// Without a decoder's name the program writes the seeds, names the decoders, and ends.
    fn begin() {
        match var("FUZZ_FORMAT") {
            Ok(name) => {
                let target = Target::named(&name).unwrap_or_else(|| panic!("no decoder is called {name}"));
                let _ = TARGET.set(target);
            }
            Err(_) => {
                let folder = PathBuf::from(var("FUZZ_SEEDS").expect("FUZZ_FORMAT or FUZZ_SEEDS is set"));
                seeds::write(&folder).expect("the seeds can be written");
                names().iter().for_each(|name| println!("{name}"));
                std::process::exit(0);
            }
        }
    }

    fn one(bytes: &[u8]) {
        let target = TARGET.get().expect("it has begun");
        let body = Bytes::copy_from_slice(bytes);
        let (peak, most) = (memory(target, &body), allowed(bytes.len()));
        assert!(peak <= most, "{peak} bytes of memory for {} of input, {most} at most", bytes.len());
        if bytes.len() >= TELLING {
            let each = peak * 1_000 / bytes.len();
            if WORST.fetch_max(each, Ordering::Relaxed) < each
                && let Ok(file) = var("FUZZ_MEMORY")
            {
                std::fs::write(file, format!("{:.1}", each as f64 / 1_000.0)).expect("the figure can be written");
            }
        }
        hold(target, &body);
    }
}

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("this program is built with coverage by tests/fuzz, which runs it");
    std::process::exit(2);
}
