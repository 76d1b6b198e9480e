//! In one term one node leads a group at most: read from what brokers log of themselves.

use std::collections::BTreeMap;

const LED: &str = "became leader ";

pub(crate) fn check(trace: &str) -> Result<(), String> {
    let mut leaders: BTreeMap<&str, &str> = BTreeMap::new();
    for line in trace.lines().filter(|line| line.contains(LED)) {
        let host = line.split("name=\"").nth(1).and_then(|rest| rest.split('"').next());
        let led = line.split(LED).nth(1);
        let (Some(host), Some(led)) = (host, led) else {
            return Err(format!("a line of a leader without its host: {line}"));
        };
        let before = leaders.insert(led, host);
        if let Some(before) = before.filter(|before| *before != host) {
            return Err(format!("{before} and {host} led {led}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn two_hosts_in_one_term_are_found() {
        let line = |host: &str, epoch: u32| {
            format!("1 log INFO node{{name=\"{host}\"}}: x: became leader group=g epoch={epoch}\n")
        };
        assert_eq!(check(&[line("a", 1), line("b", 2), line("a", 1)].concat()), Ok(()));
        assert!(check(&[line("a", 1), line("b", 1)].concat()).is_err());
    }
}
