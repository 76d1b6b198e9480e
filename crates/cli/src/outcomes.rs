//! Commands on several items, each of which may fail alone.

use std::process::ExitCode;

use crate::{Exit, Failure};

/// Counts what became of the items of a command and says what failed.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    succeeded: usize,
    failed: Vec<Failure>,
}

impl Outcomes {
    /// Notes that an item is done.
    pub(crate) fn succeed(&mut self) {
        self.succeeded += 1;
    }

    /// Notes that an item failed.
    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failed.push(failure);
    }

    /// The end of the command: 0, the failures, or 3 with the failures when something was done.
    pub(crate) fn finish(self) -> Result<ExitCode, Failure> {
        let Some(mut failure) = self.failed.into_iter().reduce(Failure::and) else {
            return Ok(ExitCode::SUCCESS);
        };
        if self.succeeded > 0 {
            failure = failure.exit(Exit::Partial);
        }
        Err(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_some_from_none() {
        let finish = |succeeded, failed| {
            let failed = (0..failed).map(|at| Failure::new(format!("item {at}"))).collect();
            Outcomes { succeeded, failed }.finish()
        };
        assert_eq!(finish(2, 0).unwrap(), ExitCode::SUCCESS);
        assert_eq!(finish(0, 2).unwrap_err().exit_code(), ExitCode::from(1));
        let some = finish(1, 2).unwrap_err();
        assert_eq!(some.exit_code(), ExitCode::from(3));
        assert_eq!(some.to_string(), "item 0\nitem 1");
    }
}
