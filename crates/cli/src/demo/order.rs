//! The order events of the demo's shop: what an order service publishes when an order is created.
//!
//! A record is made from a seed and its [`RecordId`] alone, so that a process that reads it back can
//! say what it must be without having seen it sent. The key is the user's id.
//!
//! ```json
//! {"type":"OrderCreated","data":{"order_id":"5b1c…","user_id":"user123","product_id":"product456",
//!  "quantity":2,"status":"created"},"producer":1,"sequence":17}
//! ```

use serde::Deserialize;

use crate::audit::{RecordId, fingerprint, mix};

/// How many users order.
pub const USERS: u32 = 1_000;
const PRODUCTS: u64 = 500;
const QUANTITY_MAX: u64 = 5;

/// The orders of one run.
#[derive(Clone, Copy, Debug)]
pub struct Orders {
    seed: u64,
}

/// One order event, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The number of the user, below [`USERS`].
    pub user: u32,
    /// The user's id: the record's key.
    pub key: String,
    /// The event as JSON: the record's value.
    pub value: String,
}

impl Orders {
    /// The orders that `seed` gives.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// What they are made from.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The order with this id.
    #[must_use]
    pub fn order(&self, id: RecordId) -> Order {
        let RecordId { producer, sequence } = id;
        let first = mix(self.seed ^ mix(u64::from(producer) << 40 ^ sequence));
        let (second, third) = (mix(first), mix(first ^ 1));
        let user = (third % u64::from(USERS)) as u32;
        let key = format!("user{user}");
        let order_id = uuid::Builder::from_random_bytes(
            (u128::from(first) << 64 | u128::from(second)).to_be_bytes(),
        )
        .into_uuid();
        let product = (third >> 20) % PRODUCTS;
        let quantity = (third >> 40) % QUANTITY_MAX + 1;
        let value = format!(
            "{{\"type\":\"OrderCreated\",\"data\":{{\"order_id\":\"{order_id}\",\
             \"user_id\":\"{key}\",\"product_id\":\"product{product}\",\"quantity\":{quantity},\
             \"status\":\"created\"}},\"producer\":{producer},\"sequence\":{sequence}}}"
        );
        Order { user, key, value }
    }

    /// The fingerprint that the record with this id must have when it is read.
    #[must_use]
    pub fn expected(&self, id: RecordId) -> u64 {
        self.order(id).fingerprint()
    }
}

impl Order {
    /// The fingerprint of key and value.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        fingerprint(&[self.key.as_bytes(), self.value.as_bytes()])
    }
}

/// Which record of the run a value says it is; `None` when it is no order of ours.
#[must_use]
pub fn recognise(value: &[u8]) -> Option<RecordId> {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        producer: u32,
        sequence: u64,
    }
    let event: Event<'_> = serde_json::from_slice(value).ok()?;
    let Event { kind, producer, sequence } = event;
    (kind == "OrderCreated").then_some(RecordId { producer, sequence })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_json_and_says_who_it_is() {
        let id = RecordId { producer: 3, sequence: 17 };
        let order = Orders::new(42).order(id);
        let event: serde_json::Value = serde_json::from_str(&order.value).unwrap();
        assert_eq!(event["type"], "OrderCreated");
        assert_eq!(event["data"]["user_id"], order.key.as_str());
        assert_eq!(event["data"]["status"], "created");
        assert!((1..=5).contains(&event["data"]["quantity"].as_u64().unwrap()));
        assert_eq!(event["data"]["order_id"].as_str().unwrap().len(), 36);
        assert_eq!(recognise(order.value.as_bytes()), Some(id));
    }

    #[test]
    fn orders_follow_from_seed_and_id() {
        let id = RecordId { producer: 0, sequence: 1 };
        assert_eq!(Orders::new(1).order(id), Orders::new(1).order(id));
        assert_ne!(Orders::new(1).expected(id), Orders::new(2).expected(id));
        let next = RecordId { sequence: 2, ..id };
        assert_ne!(Orders::new(1).expected(id), Orders::new(1).expected(next));
    }

    #[test]
    fn foreign_values_are_not_recognised() {
        for foreign in
            [&b""[..], b"hello", b"{\"type\":\"OrderPaid\",\"producer\":1,\"sequence\":2}"]
        {
            assert_eq!(recognise(foreign), None);
        }
    }
}
