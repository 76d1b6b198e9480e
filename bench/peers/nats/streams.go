package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// How long a cluster that has just been started may take to accept a stream.
	createWithin = 60 * time.Second
	// Streams that are asked for at the same time.
	creators = 16
	poll     = 50 * time.Millisecond
)

// connect gives connection `number` of the load; each prefers another server.
func connect(servers []string, number int) (*nats.Conn, error) {
	first := number % len(servers)
	turned := append(append([]string{}, servers[first:]...), servers[:first]...)
	return nats.Connect(strings.Join(turned, ","),
		nats.DontRandomize(),
		nats.Timeout(10*time.Second),
		// The client's two seconds between attempts would be in every pause that is measured.
		nats.ReconnectWait(20*time.Millisecond),
		nats.ReconnectJitter(5*time.Millisecond, 5*time.Millisecond),
		nats.MaxReconnects(-1),
	)
}

// openJetStream opens connection `number` for JetStream; who asks closes js.Conn().
func openJetStream(servers []string, number int) (jetstream.JetStream, error) {
	nc, err := connect(servers, number)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return js, nil
}

func streamName(topic string, partition int) string {
	return fmt.Sprintf("%s-%d", topic, partition)
}

func subject(topic string, partition int) string {
	return fmt.Sprintf("%s.%d", topic, partition)
}

// createStreams makes a stream of three replicas for each partition, and waits for their leaders.
func createStreams(servers []string, topic string, partitions int, batched bool) error {
	js, err := openJetStream(servers, 0)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	if err := waitReady(js); err != nil {
		return err
	}
	return inParallel(partitions, func(partition int) error {
		return createStream(js, topic, partition, batched)
	})
}

// inParallel does something for each partition, and for some of them at the same time.
func inParallel(partitions int, do func(partition int) error) error {
	numbers := make(chan int)
	failures := make([]error, creators)
	var workers sync.WaitGroup
	for worker := range creators {
		workers.Go(func() {
			for number := range numbers {
				if failures[worker] == nil {
					failures[worker] = do(number)
				}
			}
		})
	}
	for number := range partitions {
		numbers <- number
	}
	close(numbers)
	workers.Wait()
	return errors.Join(failures...)
}

// waitReady waits until the cluster, which may have just been started, has a leader.
func waitReady(js jetstream.JetStream) error {
	deadline := time.Now().Add(createWithin)
	for {
		// Who asks too early may get no answer at all.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := js.AccountInfo(ctx)
		cancel()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the cluster is not ready in time: %w", err)
		}
		time.Sleep(poll)
	}
}

// createStream asks until the cluster agrees.
func createStream(js jetstream.JetStream, topic string, partition int, batched bool) error {
	config := jetstream.StreamConfig{
		Name:              streamName(topic, partition),
		Subjects:          []string{subject(topic, partition)},
		Storage:           jetstream.FileStorage,
		Replicas:          3,
		AllowBatchPublish: batched,
	}
	deadline := time.Now().Add(createWithin)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		_, err := js.CreateOrUpdateStream(ctx, config)
		cancel()
		if err == nil {
			return waitCurrent(js, config.Name, deadline)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("create stream %s: %w", config.Name, err)
		}
		time.Sleep(poll)
	}
}

// waitCurrent waits until a stream has a leader and all its replicas are up to date.
func waitCurrent(js jetstream.JetStream, name string, deadline time.Time) error {
	for {
		cluster, err := placement(js, name)
		if err == nil && cluster.Leader != "" && allCurrent(cluster) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the replicas of stream %s are not up to date in time", name)
		}
		time.Sleep(poll)
	}
}

func allCurrent(cluster *jetstream.ClusterInfo) bool {
	for _, replica := range cluster.Replicas {
		if !replica.Current || replica.Offline {
			return false
		}
	}
	return len(cluster.Replicas) == 2
}

// placement tells who leads a stream and who follows.
func placement(js jetstream.JetStream, name string) (*jetstream.ClusterInfo, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	cluster := stream.CachedInfo().Cluster
	if cluster == nil {
		return nil, fmt.Errorf("stream %s is not in a cluster", name)
	}
	return cluster, nil
}

// deleteStreams takes streams away again.
func deleteStreams(servers []string, topic string, partitions int) error {
	js, err := openJetStream(servers, 0)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	for partition := range partitions {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		err := js.DeleteStream(ctx, streamName(topic, partition))
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// create measures how long it takes until all streams are there and each has acked a record.
func create(o Options) (any, error) {
	js, err := openJetStream(o.servers, 0)
	if err != nil {
		return nil, err
	}
	defer js.Conn().Close()
	if err := waitReady(js); err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := createStreams(o.servers, o.topic, o.partitions, false); err != nil {
		return nil, err
	}
	record := payloads(o.size)[0].data
	err = inParallel(o.partitions, func(partition int) error {
		ctx, cancel := context.WithTimeout(context.Background(), createWithin)
		defer cancel()
		_, err := js.Publish(ctx, subject(o.topic, partition), record)
		return err
	})
	return map[string]any{
		"partitions": o.partitions, "create_s": time.Since(begun).Seconds(),
	}, err
}
