//! What happens in the shop, in the order in which it happens.

use std::path::Path;
use std::time::{Duration, Instant};

use tidelog::demo::{connect, leader_now};
use tidelog::local::{LocalCluster, Setup};
use tidelog_client::Client;
use tidelog_client::admin::NewTopic;
use tokio::time::sleep;

use crate::audit::Audit;
use crate::process::{Launcher, Process};
use crate::services::Kind;
use crate::{Error, StoryArgs, journal};

const BROKERS: u32 = 3;
const PARTITIONS: u32 = 6;
const TOPIC: &str = "order_events";
/// The partition whose leader is killed.
const VICTIM: u32 = 0;
const CONSUMERS: [Kind; 3] = [Kind::Inventory, Kind::Shipping, Kind::Notification];
/// Orders of one product: its stock is never used up.
const ORDERS_PER_PRODUCT: u32 = 40;
/// A long time for anything that should take a second or two.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Tells it. Whatever runs ends with it, also when it is interrupted.
pub(crate) async fn tell(args: &StoryArgs) -> Result<Audit, Error> {
    let temporary = tempfile::Builder::new().prefix("tidelog-shop-").tempdir()?;
    let dir = match &args.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => temporary.path().to_owned(),
    };
    std::fs::create_dir_all(&dir)?;
    if std::fs::read_dir(&dir)?.next().is_some() {
        return Err(format!("{} is not empty", dir.display()).into());
    }
    let told = tokio::select! {
        biased;
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            return Err("interrupted before the audit".into());
        }
        told = tell_in(args, &dir) => told,
    };
    if !told.as_ref().is_ok_and(Audit::holds) && args.dir.is_none() {
        println!("logs and journals are kept in {}", temporary.keep().display());
    }
    told
}

async fn tell_in(args: &StoryArgs, dir: &Path) -> Result<Audit, Error> {
    let begun = Instant::now();
    let say = |what: &str| println!("== {:>5.1} s  {what}", begun.elapsed().as_secs_f64());
    let mut cluster = LocalCluster::create(&Setup::new(dir, BROKERS)?)?;
    cluster.start_all()?;
    cluster.ready(PATIENCE).await?;
    let client = connect(&cluster.bootstrap(), "shop").await?;
    create_topic(&client).await?;
    say(&format!("{BROKERS} brokers are up, with topic {TOPIC} of {PARTITIONS} partitions"));

    let languages = args.languages();
    let bootstrap = cluster.bootstrap().join(",");
    let launcher = Launcher { bootstrap, topic: TOPIC.to_owned(), dir: dir.to_owned() };
    launcher.prepare(&languages)?;
    let [first, second] = languages.inventory;
    let inventory = launcher.start(Kind::Inventory, first, &[])?;
    let mut services = vec![
        launcher.start(Kind::Inventory, second, &[])?,
        launcher.start(Kind::Shipping, crate::Language::Rust, &[])?,
        launcher.start(Kind::Notification, languages.notification, &[])?,
    ];
    let pause = f64::from(args.seconds) / f64::from(args.orders);
    let products = args.orders.div_ceil(ORDERS_PER_PRODUCT);
    let more = [
        format!("--orders={}", args.orders),
        format!("--products={products}"),
        format!("--pause={pause}"),
    ];
    let mut order = launcher.start(Kind::Order, languages.order, &more)?;

    until_done(&launcher, Kind::Inventory, args.orders / 4, &mut services).await?;
    let pid = inventory.kill()?;
    say(&format!("killed inventory process {pid}: the other one takes over"));
    until_done(&launcher, Kind::Inventory, args.orders / 2, &mut services).await?;
    services.push(launcher.start(Kind::Inventory, first, &[])?);
    say("started another inventory process");

    let broker = leader(&client, |_| true).await?;
    cluster.broker_mut(broker).kill()?;
    say(&format!("killed broker {broker}, leader of {TOPIC}/{VICTIM}"));
    let next = leader(&client, |leader| leader != broker).await?;
    say(&format!("broker {next} leads {TOPIC}/{VICTIM}"));
    until_done(&launcher, Kind::Inventory, args.orders * 3 / 4, &mut services).await?;
    cluster.broker_mut(broker).start()?;
    say(&format!("started broker {broker} again"));

    order.ended(PATIENCE + Duration::from_secs(args.seconds.into())).await?;
    for kind in CONSUMERS {
        until_done(&launcher, kind, args.orders, &mut services).await?;
    }
    say("every service is done");
    for service in services {
        service.stop(PATIENCE).await?;
    }
    say("every service has left its group");
    Ok(Audit::read(&launcher, &CONSUMERS)?)
}

async fn create_topic(client: &Client) -> Result<(), Error> {
    let topic = NewTopic::new(TOPIC.parse()?).partitions(PARTITIONS).replication_factor(BROKERS);
    for (_, created) in client.admin().create_topics([topic]).await? {
        created?;
    }
    Ok(())
}

/// Waits until a service has applied so many events.
async fn until_done(
    launcher: &Launcher,
    kind: Kind,
    events: u32,
    services: &mut [Process],
) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    let path = launcher.journal(kind);
    loop {
        let entries = journal::read(&path)?;
        let done = entries.iter().filter(|entry| !entry.replay).count();
        if done >= events as usize {
            return Ok(());
        }
        services.iter_mut().try_for_each(Process::still_runs)?;
        if Instant::now() >= deadline {
            let name = kind.name();
            return Err(format!("{name} did {done} of {events} events in {PATIENCE:?}").into());
        }
        sleep(POLL).await;
    }
}

/// The leader of the victim's partition, as soon as it is a wanted one.
async fn leader(client: &Client, wanted: impl Fn(u32) -> bool) -> Result<u32, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A broker that is just being killed may answer with an error: only time decides.
        match leader_now(client, TOPIC, VICTIM).await {
            Ok(Some(leader)) if wanted(leader) => return Ok(leader),
            Err(err) if Instant::now() >= deadline => return Err(err.into()),
            Ok(_) if Instant::now() >= deadline => return Err("no leader comes".into()),
            Ok(_) | Err(_) => sleep(POLL).await,
        }
    }
}
