package main

import (
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// The stream whose leader is killed.
	victim = 0
	// Load before each kill.
	settle = 3 * time.Second
	// Acks must have come without a gap for so long before a pause counts as over.
	calm = 2 * time.Second
	// A gap that ends what counts as calm.
	calmGap = 250 * time.Millisecond
	// A pause that lasts longer is given up.
	pauseMax = 60 * time.Second
	// How long replicas of a server that was started again may take to catch up.
	wholeWithin = 90 * time.Second
	// An ack that takes longer counts as lost: the server that owed it may be dead.
	ackWithin = 2 * time.Second
)

// Gaps watches the times between the acks of one partition.
type Gaps struct {
	mutex   sync.Mutex
	last    time.Time
	calm    time.Time // since when no gap was long
	longest time.Duration
}

func (g *Gaps) note(now time.Time) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	gap := now.Sub(g.last)
	g.longest = max(g.longest, gap)
	if gap > calmGap {
		g.calm = now
	}
	g.last = now
}

// restart forgets the longest gap.
func (g *Gaps) restart() {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.longest, g.calm = 0, time.Now()
}

// over tells whether acks have come for a while, and the longest gap, with one that goes on.
func (g *Gaps) over() (bool, time.Duration) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	now := time.Now()
	open := now.Sub(g.last)
	return open < calmGap && now.Sub(g.calm) > calm, max(g.longest, open)
}

// failover sends at a fixed rate while the leader of one stream is killed again and again. It names
// whom to kill, and tells each pause; the killing and starting again is done by who reads this.
func failover(o Options) (any, error) {
	if err := createStreams(o.servers, o.topic, o.partitions, false); err != nil {
		return nil, err
	}
	gaps := &Gaps{last: time.Now()}
	stop := make(chan struct{})
	var senders sync.WaitGroup
	publishers, err := startSenders(o, gaps, stop, &senders)
	if err != nil {
		return nil, err
	}
	pauses, err := killRounds(o, publishers[0].js, gaps)
	close(stop)
	senders.Wait()
	if err != nil {
		return nil, err
	}
	var acked, failed uint64
	for _, publisher := range publishers {
		err = errors.Join(err, publisher.drain(drainWithin))
		acked, failed = acked+publisher.tally.records(), failed+publisher.failed.Load()
		publisher.nc.Close()
	}
	return map[string]any{"pauses_ms": pauses, "records": acked, "failed": failed}, err
}

func startSenders(o Options, gaps *Gaps, stop chan struct{}, senders *sync.WaitGroup) (
	[]*Publisher, error) {
	records := payloads(o.size)
	publishers := make([]*Publisher, o.clients)
	for number := range publishers {
		publisher, err := newPublisher(o, number, ackWithin)
		if err != nil {
			return nil, err
		}
		publisher.onAck = func(partition int, now time.Time) {
			if partition == victim {
				gaps.note(now)
			}
		}
		publishers[number] = publisher
		senders.Go(func() { sendUntil(o, publisher, records, stop) })
	}
	return publishers, nil
}

// sendUntil sends at the rate; what fails is not sent again, since only acks are looked at.
func sendUntil(o Options, publisher *Publisher, records []Payload, stop chan struct{}) {
	begun := time.Now()
	perHeap := float64(o.rate) * heap.Seconds() / float64(o.clients)
	for sent := uint64(0); ; sent++ {
		due := begun.Add(time.Duration(float64(sent)/perHeap) * heap)
		select {
		case <-stop:
			return
		case <-time.After(time.Until(due)):
		}
		partition := int(sent % uint64(o.partitions))
		publisher.send(subjects(o), partition, records[sent%payloadCount], due)
	}
}

func killRounds(o Options, js jetstream.JetStream, gaps *Gaps) ([]float64, error) {
	var pauses []float64
	name := streamName(o.topic, victim)
	for range o.rounds {
		for partition := range o.partitions {
			name := streamName(o.topic, partition)
			if err := waitCurrent(js, name, time.Now().Add(wholeWithin)); err != nil {
				return nil, err
			}
		}
		time.Sleep(settle)
		cluster, err := placement(js, name)
		if err != nil {
			return nil, err
		}
		gaps.restart()
		say(map[string]any{"event": "kill", "server": cluster.Leader})
		pause := waitOver(gaps)
		pauses = append(pauses, float64(pause.Microseconds())/1000)
		say(map[string]any{"event": "over", "pause_ms": pauses[len(pauses)-1]})
	}
	return pauses, nil
}

// waitOver waits until acks come again, and gives the longest time without one.
func waitOver(gaps *Gaps) time.Duration {
	begun := time.Now()
	for {
		time.Sleep(poll)
		over, longest := gaps.over()
		if time.Since(begun) > settle && (over || longest > pauseMax) {
			return longest
		}
	}
}
