package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

const (
	// Records are due in heaps of this length: a timer per record would measure the timer.
	heap = time.Millisecond
	// Between the creation of streams and the load on them; deleted files go meanwhile.
	created = 2 * time.Second
	// How long acks may take after the last record was sent.
	drainWithin = 60 * time.Second
	// Who is behind by this factor of the counted time is not sent any more records.
	behindMax = 2
)

// Sent is what a load has seen, of all its connections together.
type Sent struct {
	tally   *Tally
	failed  uint64
	reason  string
	seconds float64
	asked   uint64
}

// produce measures acked records per second, or latencies at a fixed rate.
func produce(o Options) (any, error) {
	if err := warmUp(o); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	if err := createStreams(o.servers, o.topic, o.partitions, o.batched); err != nil {
		return nil, err
	}
	time.Sleep(created)
	sent, err := sendAll(o)
	if err != nil {
		return nil, err
	}
	acked := sent.tally.records()
	return map[string]any{
		"records":       acked,
		"asked":         sent.asked,
		"failed":        sent.failed,
		"reason":        sent.reason,
		"seconds":       sent.seconds,
		"records_per_s": float64(acked) / sent.seconds,
		"mb_per_s":      float64(acked) * float64(o.size) / sent.seconds / 1e6,
		"p50_ms":        sent.tally.quantile(0.5),
		"p99_ms":        sent.tally.quantile(0.99),
		"p999_ms":       sent.tally.quantile(0.999),
		"max_ms":        sent.tally.quantile(1),
		"written":       printedSums(sent.tally.sums),
	}, nil
}

// warmUp sends to streams of its own, which are gone afterwards.
func warmUp(o Options) error {
	if o.warm == 0 {
		return nil
	}
	o.topic += "warm"
	o.seconds = o.warm
	if o.rate == 0 {
		o.rate = o.warmRate
	}
	if err := createStreams(o.servers, o.topic, o.partitions, o.batched); err != nil {
		return err
	}
	sent, err := sendAll(o)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "warm: %.0f records/s\n", float64(sent.tally.records())/sent.seconds)
	return deleteStreams(o.servers, o.topic, o.partitions)
}

func sendAll(o Options) (*Sent, error) {
	if o.batched {
		return sendBatched(o)
	}
	return sendSingly(o)
}

// sendSingly publishes from every connection and waits for every ack.
func sendSingly(o Options) (*Sent, error) {
	publishers := make([]*Publisher, o.clients)
	for number := range publishers {
		publisher, err := newPublisher(o, number, 0)
		if err != nil {
			return nil, err
		}
		defer publisher.nc.Close()
		publishers[number] = publisher
	}
	records := payloads(o.size)
	begun := time.Now()
	failures := make([]error, o.clients)
	asked := make([]uint64, o.clients)
	var senders sync.WaitGroup
	for number, publisher := range publishers {
		senders.Go(func() {
			asked[number] = pace(o, begun, func(sent uint64, due time.Time) {
				partition := int(sent % uint64(o.partitions))
				publisher.send(subjects(o), partition, records[sent%payloadCount], due)
			})
			failures[number] = publisher.drain(drainWithin)
		})
	}
	senders.Wait()
	if err := errors.Join(failures...); err != nil {
		return nil, err
	}
	return sum(begun, publishers, asked), nil
}

// subjects of all partitions, made once.
var subjects = func() func(o Options) []string {
	var mutex sync.Mutex
	known := map[string][]string{}
	return func(o Options) []string {
		mutex.Lock()
		defer mutex.Unlock()
		if _, is := known[o.topic]; !is {
			for partition := range o.partitions {
				known[o.topic] = append(known[o.topic], subject(o.topic, partition))
			}
		}
		return known[o.topic]
	}
}()

// pace calls `send` as fast as it returns, or for every record once it is due; gives how many were
// due.
func pace(o Options, begun time.Time, send func(sent uint64, due time.Time)) uint64 {
	if o.rate == 0 {
		var sent uint64
		for time.Since(begun) < o.seconds {
			send(sent, time.Time{})
			sent++
		}
		return sent
	}
	perHeap := float64(o.rate) * heap.Seconds() / float64(o.clients)
	count := uint64(float64(o.rate) * o.seconds.Seconds() / float64(o.clients))
	for sent := range count {
		due := begun.Add(time.Duration(float64(sent)/perHeap) * heap)
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		} else if -wait > behindMax*o.seconds {
			break
		}
		send(sent, due)
	}
	return count
}

func sum(begun time.Time, publishers []*Publisher, asked []uint64) *Sent {
	var tallies []*Tally
	sent := new(Sent)
	for number, publisher := range publishers {
		tallies = append(tallies, publisher.tally)
		sent.failed += publisher.failed.Load()
		if reason, is := publisher.reason.Load().(string); is {
			sent.reason = reason
		}
		sent.asked += asked[number]
	}
	sent.tally = merge(tallies)
	sent.seconds = sent.tally.last.Sub(begun).Seconds()
	return sent
}
