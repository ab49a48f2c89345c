//! How much is sent when: rates become whole messages.

use std::time::Duration;

use crate::dice::Dice;
use crate::plan::CHANNELS;

/// The most messages of one channel that are sent at a time, however long the node stood still.
const BURST: u32 = 64;

/// How many messages of each channel are due after `passed`, at so many per second.
pub(crate) fn due(rates: &[f64; CHANNELS], passed: Duration, dice: &mut Dice) -> [u32; CHANNELS] {
    let passed = passed.as_secs_f64();
    rates.map(|rate| {
        let expected = rate * passed;
        let whole = expected as u32;
        (whole + u32::from(dice.chance(expected - f64::from(whole)))).min(BURST)
    })
}
