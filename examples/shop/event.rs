//! What the order service publishes.

use serde::{Deserialize, Serialize};

/// The type of the one event that there is.
pub(crate) const ORDER_CREATED: &str = "OrderCreated";

/// An event, as JSON on the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Its own for each event: the same event may come more than once.
    pub(crate) event_id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) data: Order,
}

/// An order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) order_id: String,
    pub(crate) user_id: String,
    pub(crate) product_id: String,
    pub(crate) quantity: i64,
    pub(crate) status: String,
}

impl Event {
    /// An order of today.
    pub(crate) fn order_created(user_id: &str, product_id: String, quantity: i64) -> Self {
        let data = Order {
            order_id: uuid::Uuid::new_v4().to_string(),
            user_id: user_id.to_owned(),
            product_id,
            quantity,
            status: "created".to_owned(),
        };
        let event_id = uuid::Uuid::new_v4().to_string();
        Self { event_id, kind: ORDER_CREATED.to_owned(), data }
    }
}
