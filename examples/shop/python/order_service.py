"""Order service: creates orders and publishes OrderCreated events."""

import time
import uuid

import arguments
from journal import Journal
from tidelog_events import Publisher


class OrderService:
    def __init__(self, publisher, journal):
        self.publisher, self.journal = publisher, journal

    def create_order(self, user_id, product_id, quantity):
        order_id = str(uuid.uuid4())
        order = {
            "order_id": order_id,
            "user_id": user_id,
            "product_id": product_id,
            "quantity": quantity,
            "status": "created",
        }
        event = {"event_id": str(uuid.uuid4()), "type": "OrderCreated", "data": order}
        # By product: all changes of one stock happen in one place at a time, in order.
        self.publisher.publish(product_id, event)
        self.journal.record(event["event_id"], lambda: order)
        print(f"Order created and event published: {order_id}", flush=True)
        return order_id


def main():
    parser = arguments.parser(__doc__)
    parser.add_argument("--orders", type=int, default=1, help="how many orders to create")
    parser.add_argument("--products", type=int, default=1, help="of how many products")
    parser.add_argument("--pause", type=float, default=0, metavar="SECONDS", help="between orders")
    args = parser.parse_args()
    publisher = Publisher(args.bootstrap, args.topic)
    service = OrderService(publisher, Journal(args.journal))
    for number in range(args.orders):
        product = 456 + number % args.products
        service.create_order("user123", f"product{product}", 2)
        time.sleep(args.pause)
    publisher.close()


if __name__ == "__main__":
    main()
