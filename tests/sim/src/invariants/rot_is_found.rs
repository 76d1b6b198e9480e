//! P10: a replica whose disk has rotted where it was safe says so and steps out.

use std::collections::BTreeSet;

/// What a broker logs when it takes a replica out.
const OUT: &str = "a replica steps out";

/// Looks in what brokers log for each of the damaged replicas.
pub(crate) fn check(rotten: &BTreeSet<(u32, String)>, trace: &str) -> Result<(), String> {
    let outs: Vec<&str> = trace.lines().filter(|line| line.contains(OUT)).collect();
    let found = |(broker, group): &&(u32, String)| {
        let host = format!("name=\"broker-{broker}\"");
        let partition = group.rsplit('-').next().unwrap_or_default();
        let partition = format!("partition={partition} ");
        outs.iter().any(|line| line.contains(&host) && line.contains(&partition))
    };
    match rotten.iter().find(|replica| !found(replica)) {
        None => Ok(()),
        Some((broker, group)) => {
            Err(format!("broker {broker} goes on with a damaged log of {group}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_that_nobody_tells_of_is_found() {
        let rotten = BTreeSet::from([(2, "abc-1".to_owned())]);
        let line = |broker: u32, partition: u32| {
            format!(
                "1 log ERROR node{{name=\"broker-{broker}\"}}: x: a replica steps out topic=orders \
                 partition={partition} err=\"y\"\n"
            )
        };
        assert_eq!(check(&rotten, &line(2, 1)), Ok(()));
        assert!(check(&rotten, &line(1, 1)).is_err());
        assert!(check(&rotten, &line(2, 10)).is_err());
    }
}
