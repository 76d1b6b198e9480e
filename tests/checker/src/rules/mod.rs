//! The rules, one file each. All are linear, or sort and scan.

pub(crate) mod at_least_once;
pub(crate) mod committed_offset;
pub(crate) mod fenced_commit;
pub(crate) mod offset_identity;
pub(crate) mod one_owner;
pub(crate) mod poll_order;
