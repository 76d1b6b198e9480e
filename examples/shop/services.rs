//! The services, each a process that does one thing with each event, once.

use std::path::PathBuf;
use std::time::Duration;

use tidelog_client::{Client, Record, StartPolicy};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::block_in_place;

use crate::Error;
use crate::event::{Event, ORDER_CREATED};
use crate::journal::{Entry, Journal};

/// What is there of each product to begin with.
pub(crate) const INITIAL_STOCK: i64 = 100;
/// What each order takes.
pub(crate) const QUANTITY: i64 = 2;
/// The number of the first product; the seed's is `product456`.
const FIRST_PRODUCT: u32 = 456;

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Order,
    Inventory,
    Shipping,
    Notification,
}

impl Kind {
    /// Its name, also that of its group and its journal.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Inventory => "inventory",
            Self::Shipping => "shipping",
            Self::Notification => "notification",
        }
    }
}

/// What every service takes, whatever its language.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Brokers, tried one after the other
    #[arg(long, value_delimiter = ',')]
    bootstrap: Vec<String>,
    /// The topic of the events
    #[arg(long)]
    topic: String,
    /// The consumer group, of those that consume
    #[arg(long, default_value = "")]
    group: String,
    /// What the service has done
    #[arg(long)]
    journal: PathBuf,
    /// How many orders to create
    #[arg(long, default_value_t = 1)]
    orders: u32,
    /// Of how many products
    #[arg(long, default_value_t = 1)]
    products: u32,
    /// Seconds between orders
    #[arg(long, default_value_t = 0.0)]
    pause: f64,
}

/// Runs one: the order service to its last order, the others until SIGTERM or Ctrl-C.
pub(crate) async fn run(kind: Kind, args: &Args) -> Result<(), Error> {
    tidelog::local::parent_watch();
    let mut journal = Journal::open(&args.journal)?;
    let client = Client::builder(&args.bootstrap).client_id(kind.name()).connect().await?;
    match kind {
        Kind::Order => create_orders(&client, args, &mut journal).await,
        Kind::Inventory => {
            println!("Inventory Service is waiting for order events. To exit press CTRL+C");
            consume(&client, args, |event| update_inventory(&mut journal, event)).await
        }
        Kind::Shipping => consume(&client, args, |event| ship(&mut journal, event)).await,
        Kind::Notification => consume(&client, args, |event| notify(&mut journal, event)).await,
    }
}

async fn create_orders(client: &Client, args: &Args, journal: &mut Journal) -> Result<(), Error> {
    let producer = client.producer().build().await?;
    for number in 0..args.orders {
        let product = format!("product{}", FIRST_PRODUCT + number % args.products);
        let event = Event::order_created("user123", product, QUANTITY);
        let order = &event.data;
        // By product: all changes of one stock happen in one place at a time, in order.
        let record = Record::to(args.topic.as_str())
            .key(order.product_id.clone())
            .value(serde_json::to_vec(&event)?);
        producer.send(record).await?;
        let (product_id, quantity) = (Some(order.product_id.clone()), Some(order.quantity));
        let entry = |_: &_| Entry { product_id, quantity, ..Entry::default() };
        block_in_place(|| journal.record(&event.event_id, entry))?;
        println!("Order created and event published: {}", order.order_id);
        tokio::time::sleep(Duration::from_secs_f64(args.pause)).await;
    }
    Ok(producer.close(Duration::from_secs(10)).await?)
}

/// Hands each event to `handle` until this process is asked to stop.
async fn consume(
    client: &Client,
    args: &Args,
    mut handle: impl FnMut(&Event) -> std::io::Result<()>,
) -> Result<(), Error> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let topics = [args.topic.as_str()];
    let consumer = client.consumer(&args.group).topics(topics).start(StartPolicy::Earliest);
    let mut consumer = consumer.build().await?;
    loop {
        let received = tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            received = consumer.recv() => received,
        };
        match received {
            Ok(Some(record)) => {
                let event: Event = serde_json::from_slice(record.value.as_deref().unwrap_or(b""))?;
                if event.kind == ORDER_CREATED {
                    block_in_place(|| handle(&event))?;
                }
                // Done: it does not come again, unless this process dies before the next commit.
                consumer.mark(&record);
            }
            Ok(None) => return Err("the consumer has ended".into()),
            Err(err) if err.is_retriable() => eprintln!("going on: {}", tidelog::chain(&err)),
            Err(err) => return Err(err.into()),
        }
    }
    Ok(consumer.close().await?)
}

fn update_inventory(journal: &mut Journal, event: &Event) -> std::io::Result<()> {
    let order = &event.data;
    let entry = journal.record(&event.event_id, |stock| Entry {
        product_id: Some(order.product_id.clone()),
        quantity: Some(order.quantity),
        stock: Some(stock.get(&order.product_id).unwrap_or(&INITIAL_STOCK) - order.quantity),
        ..Entry::default()
    })?;
    match entry.stock {
        Some(stock) => {
            let product = &order.product_id;
            println!("Inventory updated for product {product}. New stock: {stock}");
        }
        None => tell_replay(event),
    }
    Ok(())
}

fn ship(journal: &mut Journal, event: &Event) -> std::io::Result<()> {
    let line = |order_id: &str| println!("Shipment prepared for order {order_id}");
    once(journal, event, line)
}

fn notify(journal: &mut Journal, event: &Event) -> std::io::Result<()> {
    let user = &event.data.user_id;
    once(journal, event, |order_id| println!("Notification sent to {user} for order {order_id}"))
}

fn once(journal: &mut Journal, event: &Event, act: impl FnOnce(&str)) -> std::io::Result<()> {
    let entry = journal.record(&event.event_id, |_| Entry::default())?;
    if entry.replay {
        tell_replay(event);
    } else {
        act(&event.data.order_id);
    }
    Ok(())
}

fn tell_replay(event: &Event) {
    println!("Replay of event {} left alone", event.event_id);
}
