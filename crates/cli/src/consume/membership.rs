//! Turns `-g`, `--instance` and `--from` into a membership.

use tidelog_client::{Client, ConsumerBuilder, StartPolicy};
use tidelog_types::{GroupName, InstanceId};

use super::args::ConsumeArgs;
use super::begin::resolve;
use crate::Failure;
use crate::group::{group_name, instance_id};
use crate::moment::Zone;
use crate::position::From;

/// Which member of which group to be.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) group: GroupName,
    instance: Option<InstanceId>,
    start: StartPolicy,
}

impl Membership {
    /// What `args` ask for; `None` without a group.
    ///
    /// # Errors
    /// When something does not go together.
    pub(super) fn of(args: &ConsumeArgs, zone: Zone) -> Result<Option<Self>, Failure> {
        let Some(group) = &args.group else {
            return match args.instance {
                Some(_) => Err(Failure::usage(
                    "--instance names a member of a group, and there is \
                                               none",
                )
                .next_step("name the group with -g")),
                None => Ok(None),
            };
        };
        if !args.partitions.is_empty() {
            return Err(Failure::usage(
                "--partition does not go with --group: the group shares \
                                       partitions out",
            )
            .next_step("leave one of them out"));
        }
        Ok(Some(Self {
            group: group_name(group)?,
            instance: args.instance.as_deref().map(instance_id).transpose()?,
            start: start(&args.from, zone)?,
        }))
    }

    /// A consumer that is this member.
    pub(super) fn consumer(&self, client: &Client, args: &ConsumeArgs) -> ConsumerBuilder {
        let builder = client.consumer(self.group.as_str());
        let builder = builder.topics(args.topics.iter().cloned()).start(self.start);
        match &self.instance {
            Some(instance) => builder.instance_id(instance.as_str()),
            None => builder,
        }
    }
}

/// Where the group begins with what it has committed nothing for.
fn start(from: &From, zone: Zone) -> Result<StartPolicy, Failure> {
    let offset = match from {
        From::Start => return Ok(StartPolicy::Earliest),
        From::End => return Ok(StartPolicy::Latest),
        From::Time(moment) => return Ok(StartPolicy::Timestamp(resolve(moment, zone)?)),
        From::Offset(offset) => offset.to_string(),
        From::Last(count) => format!("-{count}"),
    };
    let problem = format!(
        "--from {offset} does not go with --group, which begins at start, end or @TIME where nothing \
         is committed"
    );
    Err(Failure::usage(problem).next_step("move a group that is there with `tidelog group seek`"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tidelog_types::Timestamp;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ConsumeArgs,
    }

    fn membership(words: &str) -> Result<Option<Membership>, String> {
        let line = Line::parse_from(["consume"].into_iter().chain(words.split(' ')));
        Membership::of(&line.args, Zone::Utc).map_err(|failure| failure.to_string())
    }

    #[test]
    fn from_is_the_start_policy_of_a_group() {
        let start = |words: &str| membership(words).unwrap().unwrap().start;
        assert_eq!(start("orders -g billing"), StartPolicy::Earliest);
        assert_eq!(start("orders -g billing --from end"), StartPolicy::Latest);
        let time = StartPolicy::Timestamp(Timestamp(1_700_000_000_123));
        assert_eq!(start("orders -g billing --from @1700000000123 -n 3 --until end"), time);
        let member = membership("orders -g billing --instance a").unwrap().unwrap();
        assert_eq!(member.group.as_str(), "billing");
        assert_eq!(member.instance.unwrap().as_str(), "a");
        assert!(membership("orders --from 5 -p 0,1").unwrap().is_none());
    }

    #[test]
    fn what_makes_no_sense_together_is_one_line() {
        let long = "x".repeat(256);
        for (words, said) in [
            ("orders --instance a", "name the group with -g"),
            ("orders -g billing -p 0", "--partition does not go with --group"),
            ("orders -g billing --from 5", "--from 5 does not go with --group"),
            ("orders -g billing --from -5", "--from -5 does not go with --group"),
            (&format!("orders -g {long}"), "INVALID_GROUP_ID"),
            (&format!("orders -g billing --instance {long}"), "instance id has 256 bytes"),
        ] {
            let error = membership(words).unwrap_err();
            assert!(error.contains(said) && !error.contains('\n'), "{words}: {error}");
        }
    }
}
