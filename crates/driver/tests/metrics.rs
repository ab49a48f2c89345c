//! What an operator can see.

use std::collections::BTreeMap;

use netstream_driver::transport::SeededRandom;
use netstream_driver::udp::{MemoryNetwork, UdpConfig};
use netstream_driver::{Clock, ManualClock, NetworkDriver, UdpDriver};

/// One counter per reason for which something is dropped, refused or evicted, and the fill of each table.
const PROMISED: &str = "
    requests_dropped_{size,prefix,version,protocol_id,expired,future,before_start,consumed,budget,open_failed,bad_fields,\
        wrong_server,table_full,reply_budget,too_many}_total
    {denied_full,refused_full,refused_identity,refused_closed}_total
    responses_dropped_{no_pending,open_failed,tag_mismatch,stale_challenge,expired,budget,table_full,identity_rate}_total
    packets_dropped_{size,type,role,sequence,unknown_peer,rate,forgery_budget,replay,open_failed,body_size,state}_total
    {pending_evicted,goodbyes_evicted,identity_takeovers,address_takeovers,flooded,timed_out,violations}_total
    errors_{blocked,refused,message_size,no_buffers,unreachable,denied,interrupted,other}_total
    {kernel_dropped,shielded,truncated,datagrams_received,datagrams_sent}_total
    {connections,connections_high,pending_handshakes,pending_handshakes_high,consumed_tokens,consumed_tokens_high}
    {receive_buffer_bytes,send_buffer_bytes,token_clock_ahead_seconds}
";

/// `a{b,c}d` as `abd` and `acd`.
fn expand(pattern: &str) -> Vec<String> {
    let Some((before, rest)) = pattern.split_once('{') else { return vec![pattern.to_owned()] };
    let (choices, after) = rest.split_once('}').unwrap();
    choices.split(',').map(|choice| format!("{before}{}{after}", choice.trim())).collect()
}

#[test]
fn every_counter_that_operators_are_promised_is_reported() {
    let mut random = SeededRandom::new(1);
    let mut driver = UdpDriver::on(MemoryNetwork::new(), UdpConfig::new(&mut random), Box::new(random));
    driver.listen(ManualClock::new().now(), &"udp://127.0.0.1:7979".parse().unwrap()).unwrap();
    let mut metrics = BTreeMap::new();
    driver.metrics(&mut |name, value| assert!(metrics.insert(name, value).is_none(), "{name} is reported twice"));
    for name in PROMISED.split_whitespace().flat_map(expand) {
        assert!(metrics.contains_key(name.as_str()), "{name} is missing");
    }
    // None of them is set before anything has happened.
    assert!(metrics.iter().all(|(name, value)| *value == 0 || name.ends_with("_bytes")), "{metrics:?}");
}
