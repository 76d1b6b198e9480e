package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// How long one reading of everything may take.
	readWithin = 300 * time.Second
	// Records that a consumer asks for ahead.
	pullMax = 4096
)

// consume reads all streams from their starts: once with checksums, then until it is warm, then
// counted.
func consume(o Options) (any, error) {
	read, _, err := readAll(o, true)
	if err != nil {
		return nil, err
	}
	for warm := time.Now(); time.Since(warm) < o.warm; {
		if _, _, err := readAll(o, false); err != nil {
			return nil, err
		}
	}
	counted, seconds, err := readAll(o, false)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"records":       counted.records(),
		"seconds":       seconds,
		"records_per_s": float64(counted.records()) / seconds,
		"mb_per_s":      float64(counted.records()) * float64(o.size) / seconds / 1e6,
		"read":          printedSums(read.sums),
	}, nil
}

// readAll reads every stream to its present end, those of one connection at the same time.
func readAll(o Options, checked bool) (*Tally, float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readWithin)
	defer cancel()
	whole := newTally(o.partitions)
	failures := make([]error, o.partitions)
	var readers sync.WaitGroup
	begun := time.Now()
	for client := range o.clients {
		js, err := openJetStream(o.servers, client)
		if err != nil {
			return nil, 0, err
		}
		defer js.Conn().Close()
		for partition := client; partition < o.partitions; partition += o.clients {
			readers.Go(func() {
				sum := &whole.sums[partition]
				failures[partition] = readStream(ctx, js, streamName(o.topic, partition), checked, sum)
			})
		}
	}
	readers.Wait()
	return whole, time.Since(begun).Seconds(), errors.Join(failures...)
}

// readStream reads one stream with an ordered consumer, the client's way to read without acks.
func readStream(ctx context.Context, js jetstream.JetStream, name string, checked bool,
	sum *Sum) error {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return err
	}
	count := stream.CachedInfo().State.Msgs
	if count == 0 {
		return nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	done := make(chan struct{})
	running, err := consumer.Consume(func(msg jetstream.Msg) {
		if sum.records == count {
			return
		}
		var crc uint32
		if checked {
			crc = crc32.ChecksumIEEE(msg.Data())
		}
		sum.add(crc)
		if sum.records == count {
			close(done)
		}
	}, jetstream.PullMaxMessages(pullMax))
	if err != nil {
		return err
	}
	defer running.Stop()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("read %d of %d records of %s: %w", sum.records, count, name, ctx.Err())
	}
}
