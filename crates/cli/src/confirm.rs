//! Asks before something is destroyed.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::Failure;
use crate::args::Globals;

/// Shows `consequence` and returns only when the user wants it, here or with `-y`.
///
/// # Errors
/// When the answer is not yes, or there is nobody to ask.
pub(crate) fn confirm(globals: &Globals, consequence: &str) -> Result<(), Failure> {
    if globals.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage(format!("{consequence}, and there is no terminal to ask on"))
            .next_step("pass -y to do it"));
    }
    ask(consequence, &mut io::stdin().lock(), &mut io::stderr())
}

fn ask(
    consequence: &str,
    answers: &mut impl BufRead,
    screen: &mut impl Write,
) -> Result<(), Failure> {
    write!(screen, "{consequence}. Go on? [y/N] ")?;
    screen.flush()?;
    let mut answer = String::new();
    answers.read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new("nothing was done")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        let answer = |text: &str| ask("it goes", &mut text.as_bytes(), &mut Vec::new()).is_ok();
        assert!(answer("y\n") && answer("YES\n"));
        assert!(!answer("\n") && !answer("") && !answer("n\n") && !answer("yeah\n"));
    }
}
