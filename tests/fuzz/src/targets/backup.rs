//! What the command line reads from a file of a backup.

use tidelog::backup::rewritten;

use crate::engine::Target;

/// What stands before a checksum, and behind it, on the lines that have one.
const BEFORE: &[u8] = b"\"crc32c\":\"";
const BEHIND: &[u8] = b"\"}\n";
const DIGITS: usize = 8;

pub(super) const BACKUP: Target = Target {
    name: "backup",
    samples: || vec![include_bytes!("../../../../crates/cli/src/backup/golden.backup").to_vec()],
    run: |input| {
        let verdict = super::verdict(rewritten(input), |once| {
            let again = rewritten(&once).expect("it was just written");
            assert_eq!(again, once);
            "ok".into()
        });
        // What follows are names that the input made up.
        verdict.split(['`', '\'']).next().unwrap_or_default().to_owned()
    },
    mend: Some(mend),
    allocates: (64 * 1024, 64),
};

/// Gives every line that ends with a checksum the right one.
fn mend(input: &mut [u8]) {
    let mut end = 0;
    while let Some(length) = input[end..].iter().position(|byte| *byte == b'\n') {
        let begin = end;
        end += length + 1;
        let Some(digits) = end.checked_sub(BEHIND.len() + DIGITS).filter(|at| *at >= begin) else {
            continue;
        };
        if input[begin..digits].ends_with(BEFORE) && input[..end].ends_with(BEHIND) {
            let crc = format!("{:08x}", crc32c::crc32c(&input[..digits]));
            input[digits..digits + DIGITS].copy_from_slice(crc.as_bytes());
        }
    }
}
