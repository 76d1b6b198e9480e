//! Reading the engine's metrics without holding them (H6): the engine writes them under the lock that
//! a borrow keeps, and would stand still as long as the borrow lives.

use openraft::async_runtime::watch::{Watch, WatchReceiver};
use openraft::{OptionalSend, OptionalSync};

/// What `take` copies out of the newest value.
pub(crate) fn latest<W: Watch, T: OptionalSend + OptionalSync, R>(
    receiver: &impl WatchReceiver<W, T>,
    take: impl FnOnce(&T) -> R,
) -> R {
    #[expect(clippy::disallowed_methods, reason = "the borrow ends with this line")]
    take(&receiver.borrow_watched())
}
