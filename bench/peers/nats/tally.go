package main

import (
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// Different payloads, so that nothing compresses across records.
const payloadCount = 64

// Payload is what a record carries, and its CRC-32.
type Payload struct {
	data []byte
	crc  uint32
}

// payloads are random bytes, which do not compress.
func payloads(size int) []Payload {
	all := make([]Payload, payloadCount)
	source := rand.NewChaCha8([32]byte{1})
	for i := range all {
		data := make([]byte, size)
		// This source always fills the whole slice.
		_, _ = source.Read(data)
		all[i] = Payload{data, crc32.ChecksumIEEE(data)}
	}
	return all
}

// Sum is what can be compared between those who write a partition and who read it: the number of
// records and the sum of their CRCs, which does not depend on the order.
type Sum struct {
	records uint64
	crcs    uint64
}

func (s *Sum) add(crc uint32) {
	s.records++
	s.crcs += uint64(crc)
}

// Tally is what one connection has seen. One goroutine at a time may write to it.
type Tally struct {
	sums      []Sum
	latencies []uint32 // microseconds
	last      time.Time
}

func newTally(partitions int) *Tally {
	return &Tally{sums: make([]Sum, partitions), latencies: make([]uint32, 0, 1<<20)}
}

func (t *Tally) records() (records uint64) {
	for _, sum := range t.sums {
		records += sum.records
	}
	return records
}

// merge adds up what several connections have seen.
func merge(tallies []*Tally) *Tally {
	whole := newTally(len(tallies[0].sums))
	for _, tally := range tallies {
		for partition, sum := range tally.sums {
			whole.sums[partition].records += sum.records
			whole.sums[partition].crcs += sum.crcs
		}
		whole.latencies = append(whole.latencies, tally.latencies...)
		if tally.last.After(whole.last) {
			whole.last = tally.last
		}
	}
	slices.Sort(whole.latencies)
	return whole
}

// quantile of the sorted latencies in milliseconds, or nil without any.
func (t *Tally) quantile(q float64) any {
	if len(t.latencies) == 0 {
		return nil
	}
	at := min(int(q*float64(len(t.latencies))), len(t.latencies)-1)
	return float64(t.latencies[at]) / 1000
}

// printedSums is the form of sums in the output; a CRC sum is text, since it may exceed 2^53.
func printedSums(sums []Sum) []map[string]any {
	printed := make([]map[string]any, len(sums))
	for partition, sum := range sums {
		printed[partition] = map[string]any{
			"partition": partition,
			"records":   sum.records,
			"crc_sum":   strconv.FormatUint(sum.crcs, 16),
		}
	}
	return printed
}
