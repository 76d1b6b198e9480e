//! Looking offsets up, after a quorum has confirmed the leader.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use tidelog_proto::v1::list_offsets_result::Result as Listed;
use tidelog_proto::v1::log_service_client::LogServiceClient;
use tidelog_proto::v1::offset_spec::Spec;
use tidelog_proto::v1::{
    Error, ListOffsetsItem, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsResult,
    ListedOffset, OffsetBound, OffsetSpec,
};
use tidelog_raft::{Partition, View};
use tidelog_types::{ErrorCode, GroupId, Offset, Timestamp};
use tokio::time::timeout;

use super::fetch::{find_time, fresh_view, read_error, resolve, serving};
use super::{Api, at_most, invalid};
use crate::access::{Operation, Resource};
use crate::cluster::Cluster;
use crate::environment::ListenerName;
use crate::limits;

/// Partitions that are asked at a time.
const AT_A_TIME: usize = 32;

/// A partition that this broker leads, as of the call.
type Fresh = Result<(Partition, View), Error>;

pub(super) async fn list(
    api: &Api,
    request: ListOffsetsRequest,
) -> Result<ListOffsetsResponse, Error> {
    at_most(request.items.len(), limits::LIST_OFFSETS_ITEMS_MAX, "items")?;
    let cluster = api.core.cluster()?;
    let mut groups = Vec::with_capacity(request.items.len());
    for item in &request.items {
        groups.push(find(api, &cluster, item).await);
    }
    // Each partition's quorum is asked once, however many items look at it.
    let mut asked: HashMap<GroupId, Fresh> = HashMap::new();
    let mut distinct: Vec<_> = groups.iter().filter_map(|group| group.clone().ok()).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let fresh = distinct.into_iter().map(|group| confirm(api, &cluster, group));
    asked.extend(stream::iter(fresh).buffer_unordered(AT_A_TIME).collect::<Vec<_>>().await);

    let fresh = groups.into_iter().map(|group| group.and_then(|group| asked[&group].clone()));
    let looks: Vec<_> = request.items.into_iter().zip(fresh).map(|(i, f)| listed(i, f)).collect();
    Ok(ListOffsetsResponse { results: stream::iter(looks).buffered(AT_A_TIME).collect().await })
}

/// The end of a partition, wherever its leader is.
pub(super) async fn high_watermark(
    api: &Api,
    cluster: &Arc<Cluster>,
    topic: &str,
    group: GroupId,
) -> Result<Offset, Error> {
    find_offset(api, cluster, topic, group, Spec::Bound(OffsetBound::Latest.into())).await
}

/// The offset that `spec` stands for in a partition, wherever its leader is.
pub(super) async fn find_offset(
    api: &Api,
    cluster: &Arc<Cluster>,
    topic: &str,
    group: GroupId,
    spec: Spec,
) -> Result<Offset, Error> {
    let none = || {
        let message = format!("partition {topic}/{} has no leader", group.partition);
        Error::new(ErrorCode::LeaderNotAvailable, message).with_retry_after(limits::RETRY_AFTER)
    };
    let (leader, _) = cluster.leader_of(group).ok_or_else(none)?;
    if leader == cluster.me {
        let partition = serving(api, cluster, group, None)?;
        let view = fresh_view(api, cluster, &partition).await?;
        return resolve(&partition, view, &spec).await;
    }
    let address = cluster.address(leader.broker, ListenerName::Internal).ok_or_else(none)?;
    let channel = cluster.others.channel(&address).map_err(|_| none())?;
    let spec = Some(OffsetSpec { spec: Some(spec) });
    let item = ListOffsetsItem { topic: topic.to_owned(), partition: group.partition.0, spec };
    let mut client = LogServiceClient::new(channel);
    let call = client.list_offsets(ListOffsetsRequest { items: vec![item] });
    let answer = timeout(limits::LINEARIZE_TIMEOUT, call).await.map_err(|_| none())?;
    let answer = answer.map_err(|status| Error::from_status(&status).unwrap_or_else(none))?;
    match answer.into_inner().results.into_iter().next().and_then(|first| first.result) {
        Some(Listed::Found(found)) => Offset::from_wire(found.offset).ok_or_else(none),
        Some(Listed::Error(error)) => Err(error),
        None => Err(none()),
    }
}

async fn listed(item: ListOffsetsItem, fresh: Fresh) -> ListOffsetsResult {
    let listed = match fresh {
        Ok((partition, view)) => look_up(&partition, view, &item).await,
        Err(error) => Err(error),
    };
    ListOffsetsResult { result: Some(listed.map_or_else(Listed::Error, Listed::Found)) }
}

async fn find(api: &Api, cluster: &Arc<Cluster>, item: &ListOffsetsItem) -> Result<GroupId, Error> {
    api.allow(Operation::Read, Resource::Topic(&item.topic))?;
    cluster.find_fresh(&item.topic, item.partition, "").await
}

async fn confirm(api: &Api, cluster: &Arc<Cluster>, group: GroupId) -> (GroupId, Fresh) {
    let fresh = async {
        let partition = serving(api, cluster, group, None)?;
        let view = fresh_view(api, cluster, &partition).await?;
        Ok((partition, view))
    };
    (group, fresh.await)
}

async fn look_up(
    partition: &Partition,
    view: View,
    item: &ListOffsetsItem,
) -> Result<ListedOffset, Error> {
    let leader_epoch = partition.leadership().borrow().term.to_leader_epoch();
    let high_watermark = view.progress.high_watermark;
    let (offset, time_ms) = match item.spec.as_ref().and_then(|spec| spec.spec.as_ref()) {
        None => return Err(invalid("spec is missing: an offset, a time or a bound")),
        Some(spec @ Spec::Offset(_)) => {
            let offset = resolve(partition, view, spec).await?;
            let appended =
                partition.append_time_at(offset).await.map_err(|err| read_error(&err))?;
            (offset, appended.map_or(-1, |time| time.0))
        }
        Some(Spec::TimeMs(time)) => {
            let found = find_time(partition, view, Timestamp(*time)).await?;
            found.map_or((high_watermark, -1), |(offset, time)| (offset, time.0))
        }
        Some(bound) => (resolve(partition, view, bound).await?, -1),
    };
    Ok(ListedOffset { offset: offset.to_wire(), time_ms, leader_epoch })
}
