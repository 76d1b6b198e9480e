//! Commits, and seeks of whole groups: both set offsets, within what a partition holds.

use futures_util::stream::{self, StreamExt};
use tidelog_proto::v1::commit_offsets_result::Result as Kept;
use tidelog_proto::v1::group_service_client::GroupServiceClient;
use tidelog_proto::v1::seek_group_result::Result as Sought;
use tidelog_proto::v1::{
    CommitOffsetsRequest, CommitOffsetsResponse, CommitOffsetsResult, CommittedOffset, Error,
    OffsetCommit, SeekGroupRequest, SeekGroupResponse, SeekGroupResult, SeekTarget,
};
use tidelog_state::group::{Command, Committer, OFFSET_METADATA_BYTES_MAX, OffsetChange, Outcome};
use tidelog_types::{ErrorCode, GroupName, Offset, PartitionId, TopicId, TopicName, failpoint};
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::super::offsets::high_watermark;
use super::super::{Api, at_most, invalid};
use super::heartbeat::spell_out;
use super::route::Call;
use super::{command_error, member_id};
use crate::access::Operation;
use crate::groups::Led;
use crate::limits;

/// Partitions whose ends are looked up at a time.
const AT_A_TIME: usize = 32;

impl Call for CommitOffsetsRequest {
    type Answer = CommitOffsetsResponse;

    const OPERATION: Operation = Operation::Read;

    fn without_coordinators(&self) -> Option<Result<CommitOffsetsResponse, Error>> {
        None
    }

    fn group_id(&self) -> &str {
        &self.group_id
    }

    fn cast_doubt(answer: &mut CommitOffsetsResponse) {
        for result in &mut answer.results {
            if let Some(Kept::Error(error)) = &mut result.result {
                error.maybe_written = true;
            }
        }
    }

    async fn here(
        &self,
        api: &Api,
        led: &Led,
        group: &GroupName,
    ) -> Result<CommitOffsetsResponse, Error> {
        at_most(self.offsets.len(), limits::GROUP_OFFSETS_MAX, "offsets")?;
        let committer = match self.member_id.as_str() {
            "" => None,
            id => Some(Committer { member: member_id(id)?, epoch: self.member_epoch }),
        };
        let results = set(api, led, self.offsets.iter().map(Target::of_commit), |offsets| {
            Command::Commit { group: group.clone(), committer, offsets }
        });
        let results = results.await.map_err(|err| command_error(led, group, err))?;
        let result = |result| CommitOffsetsResult {
            result: Some(match result {
                Ok(Set::Committed(committed)) => Kept::Committed(committed),
                Ok(Set::Sought(_)) => unreachable!("a commit is answered with commits"),
                Err(error) => Kept::Error(error),
            }),
        };
        failpoint!("answer", "commit", Before);
        Ok(CommitOffsetsResponse { results: results.into_iter().map(result).collect() })
    }

    async fn there(
        self,
        mut client: GroupServiceClient<Channel>,
    ) -> Result<Response<CommitOffsetsResponse>, Status> {
        client.commit_offsets(self).await
    }
}

impl Call for SeekGroupRequest {
    type Answer = SeekGroupResponse;

    const OPERATION: Operation = Operation::Alter;

    fn without_coordinators(&self) -> Option<Result<SeekGroupResponse, Error>> {
        None
    }

    fn group_id(&self) -> &str {
        &self.group_id
    }

    fn prepare(&mut self, api: &Api) -> Result<(), Error> {
        if self.seek_id.is_empty() {
            self.seek_id = TopicId(api.core.env.random_uuid()).to_string();
        }
        Ok(())
    }

    fn cast_doubt(answer: &mut SeekGroupResponse) {
        for result in &mut answer.results {
            if let Some(Sought::Error(error)) = &mut result.result {
                error.maybe_written = true;
            }
        }
    }

    async fn here(
        &self,
        api: &Api,
        led: &Led,
        group: &GroupName,
    ) -> Result<SeekGroupResponse, Error> {
        at_most(self.targets.len(), limits::GROUP_OFFSETS_MAX, "offsets")?;
        let token = self.seek_id.parse::<TopicId>().map_err(|_| invalid("seek_id is no UUID"))?;
        let results = set(api, led, self.targets.iter().map(Target::of_seek), |offsets| {
            Command::Seek { group: group.clone(), token: token.0, offsets }
        });
        let results = results.await.map_err(|err| command_error(led, group, err))?;
        let result = |result| SeekGroupResult {
            result: Some(match result {
                Ok(Set::Sought(before)) => Sought::Before(before),
                Ok(Set::Committed(_)) => unreachable!("a seek is answered with what was before"),
                Err(error) => Sought::Error(error),
            }),
        };
        Ok(SeekGroupResponse { results: results.into_iter().map(result).collect() })
    }

    async fn there(
        self,
        mut client: GroupServiceClient<Channel>,
    ) -> Result<Response<SeekGroupResponse>, Status> {
        client.seek_group(self).await
    }
}

/// What became of an offset.
enum Set {
    Committed(CommittedOffset),
    Sought(CommittedOffset),
}

/// An offset that a request names.
struct Target<'a> {
    topic: &'a str,
    topic_id: &'a str,
    partition: u32,
    offset: i64,
    leader_epoch: Option<i32>,
    metadata: &'a str,
}

impl<'a> Target<'a> {
    fn of_commit(commit: &'a OffsetCommit) -> Self {
        Self {
            topic: &commit.topic,
            topic_id: &commit.topic_id,
            partition: commit.partition,
            offset: commit.offset,
            leader_epoch: commit.leader_epoch.filter(|epoch| *epoch >= 0),
            metadata: &commit.metadata,
        }
    }

    fn of_seek(target: &'a SeekTarget) -> Self {
        let (topic, partition, offset) = (target.topic.as_str(), target.partition, target.offset);
        Self { topic, topic_id: "", partition, offset, leader_epoch: None, metadata: "" }
    }

    /// The change, if the partition exists and holds so much.
    async fn check(self, api: &Api, led: &Led) -> Result<OffsetChange, Error> {
        let at = led.cluster.find_fresh(self.topic, self.partition, self.topic_id).await?;
        let out_of_range = |message| Error::new(ErrorCode::OffsetOutOfRange, message);
        let offset = Offset::from_wire(self.offset).ok_or_else(|| {
            out_of_range(format!("offset is {}, the first one is 0", self.offset))
        })?;
        if self.metadata.len() > OFFSET_METADATA_BYTES_MAX {
            let bytes = self.metadata.len();
            let message = format!(
                "metadata has {bytes} bytes, at most {OFFSET_METADATA_BYTES_MAX} are allowed"
            );
            return Err(Error::new(ErrorCode::InvalidCommitOffsetSize, message));
        }
        // A replica here knows a lower bound of the end, which is enough most of the time.
        let here = led.cluster.hosted.find(at);
        let known =
            here.and_then(|replica| Some(replica.partition()?.progress().borrow().high_watermark));
        if known.is_none_or(|known| known < offset) {
            let end = high_watermark(api, &led.cluster, self.topic, at).await?;
            if offset > end {
                let message = format!(
                    "offset {offset} lies beyond the end {end} of {}/{}",
                    self.topic, self.partition
                );
                return Err(out_of_range(message));
            }
        }
        Ok(OffsetChange {
            topic: at.topic,
            name: TopicName::new(self.topic).map_err(|err| invalid(err.to_string()))?,
            partition: PartitionId(self.partition),
            offset,
            leader_epoch: self.leader_epoch,
            metadata: self.metadata.to_owned(),
        })
    }
}

/// Proposes all offsets that are valid together, and answers each target in order.
async fn set<'a>(
    api: &Api,
    led: &Led,
    targets: impl ExactSizeIterator<Item = Target<'a>>,
    command: impl FnOnce(Vec<OffsetChange>) -> Command,
) -> Result<Vec<Result<Set, Error>>, tidelog_raft::CommandError> {
    let checks: Vec<_> = targets.map(|target| target.check(api, led)).collect();
    let mut checked: Vec<_> = stream::iter(checks).buffered(AT_A_TIME).collect().await;
    refuse_repeats(&mut checked);
    let offsets: Vec<_> = checked.iter().filter_map(|change| change.clone().ok()).collect();
    if offsets.is_empty() {
        let refused = checked.into_iter().filter_map(Result::err);
        return Ok(refused.map(Err).collect());
    }
    let mut done = match led.coordinator.propose(&command(offsets)).await? {
        Outcome::Committed(results) => {
            let wire =
                |refusal: tidelog_state::group::Refusal| Error::new(refusal.code, refusal.message);
            let kept = results.into_iter().map(move |result| {
                result.map(|kept| Set::Committed(spell_out(&kept))).map_err(wire)
            });
            kept.collect::<Vec<_>>()
        }
        Outcome::Sought(before) => {
            let none = || CommittedOffset { offset: -1, leader_epoch: -1, ..Default::default() };
            let before = before.iter().map(|before| before.as_ref().map_or_else(none, spell_out));
            before.map(|before| Ok(Set::Sought(before))).collect()
        }
        Outcome::Done => unreachable!("offsets are answered one by one"),
    }
    .into_iter();
    let answer = |change: Result<OffsetChange, Error>| match change {
        Ok(_) => done.next().expect("each valid offset is answered"),
        Err(error) => Err(error),
    };
    Ok(checked.into_iter().map(answer).collect())
}

/// One command names each partition once: which of two offsets should hold is not for us to say.
fn refuse_repeats(checked: &mut [Result<OffsetChange, Error>]) {
    let mut seen = std::collections::BTreeSet::new();
    for change in checked {
        let Ok(OffsetChange { topic, name, partition, .. }) = change else { continue };
        if !seen.insert((*topic, *partition)) {
            *change = Err(invalid(format!("{name}/{partition} is named twice")));
        }
    }
}
