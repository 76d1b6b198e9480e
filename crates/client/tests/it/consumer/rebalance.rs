//! Partitions that come, go and are lost.

use tidelog_client::{CommitError, Offset, Position};

use super::{
    GROUP, PATIENCE, TOPIC, Witness, builder, cluster, committed, group_is, grow, holds, next,
    place, take,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_given_up_before_it_is_granted_and_the_next_owner_goes_on() {
    let cluster = cluster(3, 2, 6);
    let witness = Witness::default();
    let first = builder(&cluster).await.listener(witness.clone());
    let mut first = first.build().await.unwrap();
    let records = take(&mut first, 12).await;
    let marked = records.iter().filter(|record| record.offset < Offset(4));
    marked.for_each(|record| first.mark(record));
    let mut second = builder(&cluster).await.build().await.unwrap();
    // The second member gets partition 1, from where the first has marked it.
    let records = take(&mut second, 2).await;
    assert!(records.iter().all(|record| record.partition.0 == 1));
    assert_eq!(records[0].offset, Offset(4));
    assert_eq!(witness.told(), ["assigned 0 1", "revoked 1"]);
    let journal = cluster.world.state().group(GROUP).journal.clone();
    let at = |entry: &str| journal.iter().position(|line| line == entry).unwrap();
    let order = ["revoking=true orders/1", "commit orders/1 4", "free 1", "grant orders/1 to 1"];
    assert!(order.map(at).is_sorted(), "{journal:?}");
    // The other partition stayed: what was handed out of it is not handed out again.
    grow(&cluster.world, 0, 6..9);
    grow(&cluster.world, 1, 6..9);
    let records = take(&mut first, 3).await;
    assert!(records.iter().all(|record| record.partition.0 == 0));
    assert_eq!(records[0].offset, Offset(6));
    assert_eq!(take(&mut second, 3).await[0].partition.0, 1);
    // And it comes back when the second leaves.
    second.close().await.unwrap();
    holds(&cluster, &first, 2).await;
    assert_eq!(next(&mut first).await.offset, Offset(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_revoked_partition_is_handed_out() {
    let cluster = cluster(1, 2, 300);
    let mut first = builder(&cluster).await.build().await.unwrap();
    let kept = take(&mut first, 1).await;
    let second = builder(&cluster).await.build().await.unwrap();
    holds(&cluster, &second, 1).await;
    // Much of partition 1 was buffered; none of it comes.
    assert_eq!(first.assignment(), [place(0)]);
    let mut left = 300 - kept.iter().filter(|record| record.partition.0 == 0).count();
    while left > 0 {
        assert_eq!(next(&mut first).await.partition.0, 0);
        left -= 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_expired_loses_everything_and_joins_again() {
    let cluster = cluster(2, 1, 6);
    let witness = Witness::default();
    let consumer = builder(&cluster).await.listener(witness.clone());
    let mut consumer = consumer.build().await.unwrap();
    let old = take(&mut consumer, 6).await;
    old[..2].iter().for_each(|record| record.mark());
    consumer.commit().await.unwrap();
    let member = cluster.world.state().group(GROUP).members.keys().next().unwrap().clone();
    cluster.world.change(|state| state.expire(GROUP, &member));
    old.iter().for_each(|record| record.mark());
    // Whether it knows already or not: it is not a member, and may not commit.
    match consumer.commit().await {
        Ok(()) => {}
        Err(error) => assert!(matches!(error, CommitError::NotHeld { .. }), "{error}"),
    }
    let again = take(&mut consumer, 4).await;
    assert_eq!(again[0].offset, Offset(2));
    assert_eq!(witness.told(), ["assigned 0", "lost 0", "assigned 0"]);
    assert!(!old[5].is_held() && again[0].is_held());
    // Marks of what was lost count for nothing.
    old.iter().for_each(|record| record.mark());
    consumer.commit().await.unwrap();
    assert_eq!(committed(&cluster, 0), Some(2));
    let mut state = cluster.world.state();
    assert!(!state.group(GROUP).members.contains_key(&member));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_sought_goes_on_from_there_under_a_new_grant() {
    let cluster = cluster(1, 1, 9);
    let witness = Witness::default();
    let consumer = builder(&cluster).await.listener(witness.clone());
    let mut consumer = consumer.build().await.unwrap();
    let old = take(&mut consumer, 9).await;
    old.iter().for_each(|record| record.mark());
    consumer.commit().await.unwrap();
    let admin = super::client(&cluster).await.admin();
    let sought = admin.seek_group(GROUP, [(place(0), Position::Offset(Offset(4)))], false).await;
    let (_, sought) = sought.unwrap().remove(0);
    let sought = sought.unwrap();
    assert_eq!((sought.before, sought.offset), (Some(Offset(9)), Offset(4)));
    let again = take(&mut consumer, 5).await;
    assert_eq!(again[0].offset, Offset(4));
    assert_eq!(witness.told(), ["assigned 0", "lost 0", "assigned 0"]);
    old.iter().for_each(|record| record.mark());
    again[..1].iter().for_each(|record| record.mark());
    consumer.commit().await.unwrap();
    assert_eq!(committed(&cluster, 0), Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_owner_gets_what_the_old_one_had_not_marked_whatever_broker_dies() {
    let mut cluster = cluster(3, 3, 30);
    let mut first = builder(&cluster).await.build().await.unwrap();
    take(&mut first, 10).await.iter().for_each(|record| record.mark());
    (0..3).for_each(|partition| cluster.world.move_leader(TOPIC, partition, 2));
    cluster.kill(1);
    cluster.world.freeze(3);
    let mut second = builder(&cluster).await.build().await.unwrap();
    holds(&cluster, &second, 1).await;
    let record = next(&mut second).await;
    let from = committed(&cluster, record.partition.0).unwrap();
    assert_eq!(record.offset, Offset(from as u64));
    tokio::time::timeout(PATIENCE, second.close()).await.unwrap().unwrap();
    group_is(&cluster, |group| group.members.len() == 1).await;
    holds(&cluster, &first, 3).await;
}
