// The load on NATS JetStream: one stream of three replicas stands for one partition.
//
// Every mode prints one JSON object on the last line of stdout, and everything else on stderr.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

// Options are the flags of all modes; each mode uses some of them.
type Options struct {
	servers    []string
	topic      string
	partitions int
	size       int
	clients    int
	window     int
	warm       time.Duration
	warmRate   int
	seconds    time.Duration
	rate       int
	batched    bool
	rounds     int
}

const usage = "usage: load produce|consume|create|failover [flags]; load MODE -help lists them"

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("%s", usage))
	}
	modes := map[string]func(Options) (any, error){
		"produce": produce, "consume": consume, "create": create, "failover": failover,
	}
	mode, known := modes[os.Args[1]]
	if !known {
		fail(fmt.Errorf("%s", usage))
	}
	result, err := mode(parse(os.Args[1], os.Args[2:]))
	if err != nil {
		fail(err)
	}
	say(result)
}

// parse reads the flags of a mode.
func parse(mode string, words []string) Options {
	var o Options
	var servers string
	flags := flag.NewFlagSet(mode, flag.ExitOnError)
	flags.StringVar(&servers, "servers", "127.0.0.1:4222", "addresses, separated by commas")
	flags.StringVar(&o.topic, "topic", "bench", "what the names of the streams begin with")
	flags.IntVar(&o.partitions, "partitions", 8, "number of streams")
	flags.IntVar(&o.size, "size", 1024, "bytes of each record")
	flags.IntVar(&o.clients, "clients", 2, "connections")
	flags.IntVar(&o.window, "window", 32_768, "records of a connection that wait for their acks")
	warm := flags.Float64("warm", 0, "seconds of load that are not counted, before")
	flags.IntVar(&o.warmRate, "warm-rate", 60_000, "records/s of that load")
	seconds := flags.Float64("seconds", 15, "seconds that are counted")
	flags.IntVar(&o.rate, "rate", 0, "records/s of all connections; 0 is as fast as acks come")
	flags.BoolVar(&o.batched, "batched", false, "publish with the client's fast batches")
	flags.IntVar(&o.rounds, "rounds", 5, "how often a leader is killed")
	// ExitOnError: it does not return with an error.
	_ = flags.Parse(words)
	o.servers = strings.Split(servers, ",")
	o.warm = time.Duration(*warm * float64(time.Second))
	o.seconds = time.Duration(*seconds * float64(time.Second))
	return o
}

// say prints one line for the program that reads stdout.
func say(value any) {
	line, err := json.Marshal(value)
	if err != nil {
		fail(err)
	}
	fmt.Println(string(line))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "load:", err)
	os.Exit(1)
}
