//! Once brokers have come and gone, the cluster consists of those that are left: no partition names a
//! broker that was removed, nor does any group count on one, and each has all of its replicas.

use std::collections::BTreeSet;

use crate::cluster::REPLICAS;

/// What a cluster says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The brokers that it lists.
    pub(crate) brokers: BTreeSet<u32>,
    /// Replicas on all of them, those of consumer groups included.
    pub(crate) replicas: usize,
    /// How many there should be.
    pub(crate) replicas_wanted: usize,
    /// The partitions that users see.
    pub(crate) partitions: Vec<SeenPartition>,
    /// What cannot do without one of the brokers, the metadata included: a voter of it is missing.
    pub(crate) needed: Vec<String>,
    /// All brokers are alive, all partitions have leaders, and all replicas are up to date.
    pub(crate) is_well: bool,
}

/// What is said of a partition.
#[derive(Clone, Debug)]
pub(crate) struct SeenPartition {
    /// Its name.
    pub(crate) name: String,
    /// Everybody whom it names: by the metadata, or in its group.
    pub(crate) named: BTreeSet<u32>,
    /// Its replicas that are alive and vote.
    pub(crate) vote: usize,
}

/// Holds what was seen against the brokers that are `left`.
pub(crate) fn check(left: &BTreeSet<u32>, seen: &Seen) -> Result<(), String> {
    let Seen { brokers, replicas, replicas_wanted, partitions, needed, is_well } = seen;
    if brokers != left {
        return Err(format!("brokers {left:?} should be left, and {brokers:?} are listed"));
    }
    let all = REPLICAS as usize;
    let is_whole =
        |it: &&SeenPartition| it.named.is_subset(left) && it.named.len() == all && it.vote == all;
    if let Some(SeenPartition { name, named, vote }) = partitions.iter().find(|it| !is_whole(it)) {
        return Err(format!("{name} names {named:?}, of which {vote} vote; {left:?} are left"));
    }
    if replicas != replicas_wanted {
        return Err(format!("{left:?} have {replicas} replicas, {replicas_wanted} are wanted"));
    }
    if !needed.is_empty() || !is_well {
        return Err(format!(
            "{left:?} are left, which are well: {is_well}, and needed: {needed:?}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_that_is_named_or_missed_after_it_was_removed_is_found() {
        let left = BTreeSet::from([1, 3, 4]);
        let partition = |named: [u32; 3], vote| SeenPartition {
            name: "orders/0".to_owned(),
            named: named.into(),
            vote,
        };
        let well = || Seen {
            brokers: left.clone(),
            replicas: 3,
            replicas_wanted: 3,
            partitions: vec![partition([1, 3, 4], 3)],
            needed: Vec::new(),
            is_well: true,
        };
        let check = |seen| check(&left, &seen);
        assert_eq!(check(well()), Ok(()));
        assert!(check(Seen { brokers: BTreeSet::from([1, 2, 3, 4]), ..well() }).is_err());
        assert!(check(Seen { partitions: vec![partition([1, 2, 3], 3)], ..well() }).is_err());
        assert!(check(Seen { partitions: vec![partition([1, 3, 4], 2)], ..well() }).is_err());
        assert!(check(Seen { replicas: 2, ..well() }).is_err());
        assert!(check(Seen { needed: vec!["metadata".to_owned()], ..well() }).is_err());
        assert!(check(Seen { is_well: false, ..well() }).is_err());
    }
}
