package main

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Slot is the place of one record that waits for its ack. Slots are used again, so that the window
// is their number and finding one by its message needs no lock.
type Slot struct {
	msg       nats.Msg
	from      time.Time
	partition int
	crc       uint32
}

// Publisher is one connection that publishes records, each with an ack of its own.
type Publisher struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	slots  map[*nats.Msg]*Slot
	free   chan *Slot
	tally  *Tally
	failed atomic.Uint64
	reason atomic.Value
	// Told about every ack, with its partition and the moment; for pauses.
	onAck func(partition int, now time.Time)
}

// newPublisher connects. An ack that does not come within `ackWithin` counts as failed; 0 waits on.
func newPublisher(o Options, number int, ackWithin time.Duration) (*Publisher, error) {
	nc, err := connect(o.servers, number)
	if err != nil {
		return nil, err
	}
	p := &Publisher{
		nc:    nc,
		slots: make(map[*nats.Msg]*Slot, o.window),
		free:  make(chan *Slot, o.window),
		tally: newTally(o.partitions),
	}
	for range o.window {
		slot := new(Slot)
		p.slots[&slot.msg] = slot
		p.free <- slot
	}
	options := []jetstream.JetStreamOpt{
		jetstream.WithPublishAsyncMaxPending(o.window + 1),
		jetstream.WithPublishAsyncAckHandler(p.acked),
		jetstream.WithPublishAsyncErrHandler(p.refused),
	}
	if ackWithin > 0 {
		options = append(options, jetstream.WithPublishAsyncTimeout(ackWithin))
	}
	p.js, err = jetstream.New(nc, options...)
	return p, err
}

// send publishes as soon as the window has room.
func (p *Publisher) send(topic []string, partition int, payload Payload, due time.Time) {
	slot := <-p.free
	slot.msg = nats.Msg{Subject: topic[partition], Data: payload.data}
	slot.partition, slot.crc, slot.from = partition, payload.crc, due
	if due.IsZero() {
		slot.from = time.Now()
	}
	if _, err := p.js.PublishMsgAsync(&slot.msg); err != nil {
		p.refused(p.js, &slot.msg, err)
	}
}

// acked is called by the connection's one goroutine for replies.
func (p *Publisher) acked(_ jetstream.JetStream, msg *nats.Msg, _ *jetstream.PubAck) {
	slot, now := p.slots[msg], time.Now()
	p.tally.sums[slot.partition].add(slot.crc)
	p.tally.latencies = append(p.tally.latencies, uint32(now.Sub(slot.from).Microseconds()))
	p.tally.last = now
	if p.onAck != nil {
		p.onAck(slot.partition, now)
	}
	p.free <- slot
}

// refused is called from several goroutines, some of which hold the client's lock.
func (p *Publisher) refused(_ jetstream.JetStream, msg *nats.Msg, err error) {
	p.failed.Add(1)
	p.reason.CompareAndSwap(nil, err.Error())
	p.free <- p.slots[msg]
}

// drain waits until no record waits for its ack.
func (p *Publisher) drain(within time.Duration) error {
	deadline := time.Now().Add(within)
	for len(p.free) < cap(p.free) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d acks did not come within %s", cap(p.free)-len(p.free), within)
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}
