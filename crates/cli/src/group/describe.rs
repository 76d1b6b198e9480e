//! `tidelog group describe`.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use tidelog_client::admin::{Admin, GroupFacts};
use tokio::time::{MissedTickBehavior, interval};

use super::args::DescribeArgs;
use super::lag::Lag;
use super::name::group_name;
use super::view::GroupView;
use crate::args::Globals;
use crate::connect::connect;
use crate::interrupt::Interrupt;
use crate::outcomes::Outcomes;
use crate::{Failure, Output};

/// Between two looks of `--watch`.
const PERIOD: Duration = Duration::from_secs(1);
/// Takes the cursor home and clears the screen.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

pub(super) async fn run(globals: &Globals, args: &DescribeArgs) -> Result<ExitCode, Failure> {
    let group = group_name(&args.group)?;
    let admin = connect(globals).await?.admin();
    let facts = admin.describe_group(group.as_str()).await?;
    if args.watch {
        return watch(globals.output(), args, &admin, facts).await;
    }
    show(globals.output(), args, facts)?.finish()
}

/// Shows the group again and again. It ends when the group does; a cluster that does not answer for a
/// while is waited for.
async fn watch(
    output: Output,
    args: &DescribeArgs,
    admin: &Admin,
    facts: GroupFacts,
) -> Result<ExitCode, Failure> {
    let mut interrupt = Interrupt::listen()?;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let screen = io::stdout().is_terminal() && !output.is_json();
    let mut next = Some(facts);
    loop {
        if let Some(facts) = next.take() {
            if screen {
                io::stdout().write_all(CLEAR)?;
            }
            // A partition whose leader does not tell has dashes; the next look may know more.
            show(output, args, facts)?;
        }
        let look = async {
            ticks.tick().await;
            admin.describe_group(&args.group).await
        };
        tokio::select! {
            biased;
            () = interrupt.asked() => return Ok(ExitCode::SUCCESS),
            described = look => match described {
                Ok(facts) => next = Some(facts),
                Err(error) if error.is_retriable() => {
                    writeln!(io::stderr(), "{}", Failure::from(error))?;
                }
                Err(error) => return Err(error.into()),
            },
        }
    }
}

/// Prints the group, or how far it is.
fn show(output: Output, args: &DescribeArgs, facts: GroupFacts) -> Result<Outcomes, Failure> {
    let mut outcomes = Outcomes::default();
    if !args.lag {
        let group = GroupView::from(&facts);
        output.item("group.describe", &group, |_| group.page())?;
        return Ok(outcomes);
    }
    let lag = Lag::from(facts);
    output.items("group.lag", &lag.partitions, |zone| lag.page(zone))?;
    lag.partitions.iter().skip(lag.untold.len()).for_each(|_| outcomes.succeed());
    lag.untold.into_iter().for_each(|failure| outcomes.fail(failure));
    Ok(outcomes)
}
