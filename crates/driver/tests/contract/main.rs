//! What every driver promises, whatever it is made of: one set of stories, told over each of them.

mod harness;
mod setups;
mod stories;

/// One module of tests per kind of driver and link.
macro_rules! contract {
    ($($setup:ident),* $(,)?) => {$(
        mod $setup {
            use crate::{setups, stories};
            contract!(@stories $setup:
                a_client_connects_and_both_ends_know,
                the_client_may_connect_again_after_it_has_left,
                reliable_messages_arrive_once_and_in_order,
                a_message_arrives_the_same_whether_it_is_copied_given_away_or_shared,
                unreliable_messages_arrive_at_most_once,
                fragmented_messages_arrive_whole,
                the_servers_reason_reaches_the_client,
                the_clients_reason_reaches_the_server,
                what_was_queued_arrives_before_the_goodbye,
                nothing_can_be_sent_after_disconnect,
                stop_listening_keeps_those_who_are_connected,
                a_dropped_client_says_goodbye,
                a_dropped_server_says_goodbye_to_all,
                a_client_can_give_up_at_once,
                two_clients_are_never_confused,
                ids_are_not_used_again,
                wrong_calls_have_their_own_errors,
                disconnecting_twice_or_a_stranger_changes_nothing,
                both_ends_may_leave_at_the_same_time,
            );
        }
    )*};
    (@stories $setup:ident: $($story:ident),* $(,)?) => {$(
        #[test]
        fn $story() {
            stories::$story(&mut setups::$setup());
        }
    )*};
}

contract!(
    ipc,
    ipc_lossy,
    udp_memory,
    udp_memory_lossy,
    udp_chacha20_lossy,
    udp_loopback,
    udp_loopback_lossy,
    udp_thread,
    udp_thread_lossy,
);
