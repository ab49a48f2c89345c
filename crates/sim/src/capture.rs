//! What simulated connections say, as a beginning for fuzzers.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use crate::plan::Level;
use crate::run::{Case, Trace};

/// How long each run takes in virtual time.
const LENGTH: Duration = Duration::from_secs(20);

/// Inputs of one target.
const MOST: usize = 4000;

/// Writes datagrams and packets of the runs of `seeds` into the corpora of the fuzz targets below `root`; returns how many
/// there are of each.
pub fn capture(root: &Path, seeds: Range<u64>) -> io::Result<(usize, usize)> {
    let (mut datagrams, mut packets) = (BTreeMap::new(), BTreeMap::new());
    for seed in seeds {
        let outcome = Case::new(seed, Level::L1, LENGTH).run(Trace::Capture);
        for bytes in outcome.captured {
            // FZ1 reads a byte of settings first.
            let input = [&[seed as u8 % 4], bytes.as_slice()].concat();
            datagrams.entry((bytes[0], bytes.len())).or_insert(input);
        }
        for body in outcome.captured_packets {
            // FZ7, too.
            let input = [&[seed as u8], body.as_slice()].concat();
            packets.entry((body.first().copied(), body.len())).or_insert(input);
        }
    }
    let written = write(&root.join("fz01_header"), datagrams.into_values())?;
    Ok((written, write(&root.join("fz07_body"), packets.into_values())?))
}

fn write(directory: &Path, inputs: impl Iterator<Item = Vec<u8>>) -> io::Result<usize> {
    fs::create_dir_all(directory)?;
    let mut written = 0;
    for input in inputs.take(MOST) {
        fs::write(directory.join(format!("sim-{written}")), input)?;
        written += 1;
    }
    Ok(written)
}
