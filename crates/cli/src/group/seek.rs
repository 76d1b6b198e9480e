//! `tidelog group seek`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde::Serialize;
use tidelog_client::admin::{Admin, OffsetAt, PerItem, Sought};
use tidelog_client::{Client, Position};
use tidelog_types::{ErrorCode, GroupName, Offset, PartitionId, TopicPartition};

use super::args::{Part, SeekArgs};
use super::name::group_name;
use crate::args::Globals;
use crate::confirm::confirm;
use crate::connect::connect;
use crate::moment::{Zone, now};
use crate::outcomes::Outcomes;
use crate::output::plural;
use crate::position::To;
use crate::topic::{or_dash, partition_count, unknown_partition};
use crate::{Column, Failure, Page};

/// What to say when something is wrong before anything was changed.
const UNMOVED: &str = "nothing was moved";
/// How many moves are named when asking; the table names all.
const NAMED_MAX: usize = 10;

/// Where the group is moved in a partition.
#[derive(Debug, Serialize)]
struct Move {
    topic: String,
    partition: u32,
    /// What was committed before, if anything was.
    from: Option<u64>,
    to: u64,
    /// Whether it was done; not with `--dry-run`.
    moved: bool,
}

const COLUMNS: &[Column] = &[
    Column::text("TOPIC"),
    Column::number("PARTITION"),
    Column::number("FROM"),
    Column::number("TO"),
];

/// Moves a group after showing what that means: in all partitions or, when one cannot be, in none.
pub(super) async fn run(globals: &Globals, args: &SeekArgs) -> Result<ExitCode, Failure> {
    let group = group_name(&args.group)?;
    let position = position(&args.to, globals.zone())?;
    let client = connect(globals).await?;
    let partitions = partitions(&client, &group, &args.topics).await?;
    let admin = client.admin();
    let targets = partitions.iter().map(|partition| (partition.clone(), position));
    let plan = plan(admin.seek_group(group.as_str(), targets, true).await?)?;
    if let Position::Offset(offset) = position {
        check_starts(&admin, &plan, offset).await?;
    }
    if args.dry_run {
        let moves: Vec<_> = plan.iter().map(|(at, sought)| Move::new(at, *sought, false)).collect();
        print(globals, &moves)?;
        return Ok(ExitCode::SUCCESS);
    }
    confirm(globals, &consequence(&group, &plan))?;
    // To the offsets that were shown: what start, end and times stand for may have changed since.
    let targets = plan.into_iter().map(|(at, sought)| (at, Position::Offset(sought.offset)));
    let mut outcomes = Outcomes::default();
    let mut moves = Vec::new();
    for (at, sought) in admin.seek_group(group.as_str(), targets, false).await? {
        match sought {
            Ok(sought) => {
                moves.push(Move::new(&at, sought, true));
                outcomes.succeed();
            }
            Err(error) => {
                outcomes.fail(Failure::from(error).at(|message| format!("{at}: {message}")));
            }
        }
    }
    print(globals, &moves)?;
    outcomes.finish()
}

fn print(globals: &Globals, moves: &[Move]) -> Result<(), Failure> {
    let page = |_| Page::new().table(COLUMNS, moves.iter().map(Move::cells));
    Ok(globals.output().items("group.seek", moves, page)?)
}

/// The place that is meant; a negative offset is none.
fn position(to: &To, zone: Zone) -> Result<Position, Failure> {
    Ok(match to {
        To::Start => Position::Earliest,
        To::End => Position::Latest,
        To::Offset(number) => Position::Offset(Offset::from_wire(*number).ok_or_else(|| {
            let code = ErrorCode::OffsetOutOfRange;
            Failure::usage(format!("offset {number} is negative ({code})"))
                .next_step("the first one is 0; where records begin is --to start")
        })?),
        To::Time(moment) => {
            let time = moment.resolve(now(), zone);
            Position::Timestamp(time.map_err(|error| Failure::usage(error.to_string()))?)
        }
    })
}

/// The partitions to move the group in: those that were named, or all that it has to do with.
async fn partitions(
    client: &Client,
    group: &GroupName,
    parts: &[Part],
) -> Result<BTreeSet<TopicPartition>, Failure> {
    let known = client.admin().describe_group(group.as_str()).await?.partitions;
    if parts.is_empty() {
        let all: BTreeSet<_> = known.into_iter().map(|partition| partition.partition).collect();
        if all.is_empty() {
            let nothing = format!("group {group} has committed nothing and holds nothing");
            return Err(Failure::new(nothing).next_step("name topics with --topic"));
        }
        return Ok(all);
    }
    let mut named = BTreeSet::new();
    for Part { topic, partition } in parts {
        let count = partition_count(client, topic).await?;
        let partitions = match partition {
            Some(one) => one.0..one.0.saturating_add(1),
            None => 0..count,
        };
        for partition in partitions.map(PartitionId) {
            let name = TopicPartition { topic: topic.clone(), partition };
            if partition.0 >= count {
                return Err(unknown_partition(&name, count));
            }
            named.insert(name);
        }
    }
    Ok(named)
}

/// What would be done, if all of it can be.
fn plan(sought: PerItem<TopicPartition, Sought>) -> Result<Vec<(TopicPartition, Sought)>, Failure> {
    let (mut plan, mut first, mut failed) = (Vec::new(), None, 0);
    for (at, sought) in sought {
        match sought {
            Ok(sought) => plan.push((at, sought)),
            Err(error) => {
                failed += 1;
                first.get_or_insert(error);
            }
        }
    }
    let Some(error) = first else { return Ok(plan) };
    let out_of_range = error.code() == Some(ErrorCode::OffsetOutOfRange);
    let failure = Failure::from(error).at(|message| match failed {
        1 => message.to_owned(),
        failed => format!("{message}, and {}", plural(failed - 1, "more partition")),
    });
    Err(failure.next_step(match out_of_range {
        true => format!("{UNMOVED}: use --to end, or name other partitions with --topic"),
        false => format!("{UNMOVED}: look at `tidelog cluster health`, then try again"),
    }))
}

/// Refuses an offset below the first record of a partition: members could not read from there.
async fn check_starts(
    admin: &Admin,
    plan: &[(TopicPartition, Sought)],
    offset: Offset,
) -> Result<(), Failure> {
    let items = plan.iter().map(|(at, _)| (at.clone(), OffsetAt::Earliest));
    for (at, listed) in admin.list_offsets(items).await {
        let start = listed?.offset;
        if offset < start {
            let code = ErrorCode::OffsetOutOfRange;
            let below = format!("{at} begins at {start}, asked for {offset} ({code})");
            return Err(Failure::new(below).next_step(format!("{UNMOVED}: use --to start")));
        }
    }
    Ok(())
}

fn consequence(group: &GroupName, plan: &[(TopicPartition, Sought)]) -> String {
    let one = |(at, sought): &(TopicPartition, Sought)| {
        format!("{at} {} -> {}", or_dash(sought.before), sought.offset)
    };
    let named: Vec<String> = plan.iter().take(NAMED_MAX).map(one).collect();
    let more = match plan.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("this moves group {group}: {}{more}", named.join(", "))
}

impl Move {
    fn new(at: &TopicPartition, sought: Sought, moved: bool) -> Self {
        Self {
            topic: at.topic.to_string(),
            partition: at.partition.0,
            from: sought.before.map(|offset| offset.0),
            to: sought.offset.0,
            moved,
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.topic.clone(),
            self.partition.to_string(),
            or_dash(self.from),
            self.to.to_string(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_positions_and_negative_ones_are_none() {
        let read = |text: &str| position(&text.parse().unwrap(), Zone::Utc);
        assert_eq!(read("start").unwrap(), Position::Earliest);
        assert_eq!(read("end").unwrap(), Position::Latest);
        assert_eq!(read("7").unwrap(), Position::Offset(Offset(7)));
        let time = Position::Timestamp(tidelog_types::Timestamp(1_700_000_000_123));
        assert_eq!(read("@1700000000123").unwrap(), time);
        let negative = read("-5").unwrap_err();
        assert_eq!(negative.exit_code(), ExitCode::from(2));
        let text = negative.to_string();
        assert!(text.contains("offset -5") && text.contains("OFFSET_OUT_OF_RANGE"), "{text}");
    }
}
