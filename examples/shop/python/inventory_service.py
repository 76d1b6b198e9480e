"""Inventory service: takes what was ordered out of the stock, each order once."""

import arguments
from journal import Journal
from tidelog_events import consume

INITIAL_STOCK = 100


class InventoryService:
    def __init__(self, journal_path):
        self.inventory = {}
        self.replays = 0
        self.journal = Journal(journal_path, self.learn)

    def learn(self, entry):
        self.inventory[entry["product_id"]] = entry["stock"]

    def update_inventory(self, event_id, product_id, quantity):
        def change():
            stock = self.inventory.get(product_id, INITIAL_STOCK) - quantity
            return {"product_id": product_id, "quantity": quantity, "stock": stock}

        if self.journal.record(event_id, change) is None:
            self.replays += 1
            print(f"Replay of event {event_id} left alone. Replays: {self.replays}", flush=True)
            return
        stock = self.inventory[product_id]
        print(f"Inventory updated for product {product_id}. New stock: {stock}", flush=True)

    def process_order_event(self, event):
        if event["type"] == "OrderCreated":
            order = event["data"]
            self.update_inventory(event["event_id"], order["product_id"], order["quantity"])


def main():
    parser = arguments.parser(__doc__)
    parser.add_argument("--group", default="inventory", help="the consumer group")
    args = parser.parse_args()
    stop = arguments.asked_to_stop()
    service = InventoryService(args.journal)
    print("Inventory Service is waiting for order events. To exit press CTRL+C", flush=True)
    for event in consume(args.bootstrap, args.group, args.topic, stop):
        service.process_order_event(event)


if __name__ == "__main__":
    main()
