//! What must hold, one file each. A file's name is the invariant's.
//!
//! Those that are one call and its outcome stand where the call is: `sends_fail_by_time_alone`,
//! `nothing_corrupt_is_served`, `everything_is_readable`, `healed_partitions_take_writes`,
//! `healed_groups_answer`, `the_last_one_goes_on`, `the_lost_stay_out`, `views_are_readable`,
//! `views_are_in_order`, `changes_of_brokers_come_to_an_end`, `the_removed_are_turned_away`,
//! `clients_come_to_an_end`, `nothing_panics`.

pub(crate) mod acked_records_survive;
pub(crate) mod acks_are_durable_at_a_majority;
pub(crate) mod group_offsets_are_a_register;
pub(crate) mod groups_skip_nothing;
pub(crate) mod leaders_have_durable_votes;
pub(crate) mod nothing_is_invented;
pub(crate) mod nothing_read_vanishes;
pub(crate) mod offsets_are_dense;
pub(crate) mod one_leader_per_term;
pub(crate) mod one_value_per_offset;
pub(crate) mod order_is_real_time;
pub(crate) mod producers_keep_their_order;
pub(crate) mod readers_skip_nothing;
pub(crate) mod reads_are_fresh;
pub(crate) mod records_stand_once;
pub(crate) mod replicas_agree;
pub(crate) mod rot_is_found;
pub(crate) mod the_removed_hold_nothing;
pub(crate) mod views_hold_the_newest;
pub(crate) mod votes_cover_the_log;
pub(crate) mod votes_never_go_back;
pub(crate) mod wiped_brokers_stay_out;

use crate::history::{History, Violation};
use crate::trace::Trace;

/// Checks what a whole history shows.
pub(crate) fn check(history: &History, trace: &Trace) -> Vec<Violation> {
    let mut found = history.violations.clone();
    let mut note = |invariant, outcome: Result<(), String>| {
        found.extend(outcome.err().map(|what| Violation { invariant, what }));
    };
    note("order_is_real_time", order_is_real_time::check(&history.acks));
    note("one_leader_per_term", trace.look(one_leader_per_term::check));
    let register = group_offsets_are_a_register::check(&history.register);
    note("group_offsets_are_a_register", register);
    let skipped = groups_skip_nothing::check(&history.committed, &history.delivered);
    note("groups_skip_nothing", skipped);
    let Some(end) = &history.end else { return found };
    note("acked_records_survive", acked_records_survive::check(&history.acks, end));
    note("nothing_is_invented", nothing_is_invented::check(&history.sent, end));
    note("nothing_read_vanishes", nothing_read_vanishes::check(&history.read, end));
    note("offsets_are_dense", offsets_are_dense::check(end));
    note("records_stand_once", records_stand_once::check(end));
    note("producers_keep_their_order", producers_keep_their_order::check(&history.acks));
    found
}
