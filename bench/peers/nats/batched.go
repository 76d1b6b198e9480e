package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// sendBatched publishes with the client's fast batches: one open batch for each stream and
// connection, whose acks cover many records. There are no latencies of single records.
func sendBatched(o Options) (*Sent, error) {
	records := payloads(o.size)
	lanes := o.clients * o.partitions
	tallies := make([]*Tally, lanes)
	failures := make([]error, lanes)
	asked := make([]uint64, lanes)
	begun := time.Now()
	var senders sync.WaitGroup
	for client := range o.clients {
		nc, err := connect(o.servers, client)
		if err != nil {
			return nil, err
		}
		defer nc.Close()
		js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(30*time.Second))
		if err != nil {
			return nil, err
		}
		for partition := range o.partitions {
			lane := client*o.partitions + partition
			tallies[lane] = newTally(o.partitions)
			senders.Go(func() {
				asked[lane], failures[lane] = sendBatch(o, js, partition, records, tallies[lane], begun)
			})
		}
	}
	senders.Wait()
	if err := errors.Join(failures...); err != nil {
		return nil, err
	}
	sent := &Sent{tally: merge(tallies)}
	for _, count := range asked {
		sent.asked += count
	}
	sent.seconds = sent.tally.last.Sub(begun).Seconds()
	return sent, nil
}

// sendBatch fills one batch for the whole time and closes it; the closing ack covers all of it.
func sendBatch(o Options, js jetstream.JetStream, partition int, records []Payload, tally *Tally,
	begun time.Time) (uint64, error) {
	batch, err := jetstreamext.NewFastPublisher(js, jetstreamext.FastPublishFlowControl{
		Flow: 500, MaxOutstandingAcks: 4, AckTimeout: 30 * time.Second,
	})
	if err != nil {
		return 0, err
	}
	// Each lane is paced like a connection that has only this stream.
	o.clients *= o.partitions
	var failure error
	name := subject(o.topic, partition)
	sent := pace(o, begun, func(sent uint64, _ time.Time) {
		if failure == nil {
			payload := records[sent%payloadCount]
			_, failure = batch.Add(name, payload.data)
			tally.sums[partition].add(payload.crc)
		}
	})
	if failure != nil {
		return sent, fmt.Errorf("stream %d: %w", partition, failure)
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainWithin)
	defer cancel()
	ack, err := batch.Close(ctx)
	if err != nil {
		return sent, fmt.Errorf("close the batch of stream %d: %w", partition, err)
	}
	tally.last = time.Now()
	// The end of the batch takes a sequence of its own, with or without being counted.
	if own := tally.sums[partition].records; ack.BatchSize < own {
		return sent, fmt.Errorf("stream %d acked %d of %d records", partition, ack.BatchSize, own)
	}
	return sent, nil
}
