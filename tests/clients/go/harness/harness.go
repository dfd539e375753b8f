// Package harness is what the Go programs have in common: the records, the order of the cases, and one line for each.
//
// A program is called with BOOTSTRAP PREFIX CASE…; every topic and group that it makes begins with PREFIX.
package harness

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"sort"
	"strings"
	"sync/atomic"
	"time"
)

// Patience is how long anything may take before it has failed.
const Patience = 90 * time.Second

// Bootstrap and Prefix are the program's first arguments.
var Bootstrap, Prefix = os.Args[1], os.Args[2]

// Topic is a name of the case's own.
func Topic(name string) string { return Prefix + "." + name }

// Header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Record is what is produced and read.
type Record struct {
	Key, Value []byte
	Headers    []Header
	Timestamp  int64
}

// First is the timestamp of the first record, in milliseconds.
const First = 1_700_000_000_000

// noise compresses to somewhat more than half; it is the same in every language.
func noise(length int) []byte {
	state, out := uint64(12345), make([]byte, length)
	for i := range out {
		state = (state*1103515245 + 12345) & 0x7fffffff
		out[i] = byte(state>>16) & 0x0f
	}
	return out
}

// Records are those of the codec cases, a second apart.
func Records() []Record {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	all := []Record{
		{Key: []byte("k0"), Value: []byte("v0"), Headers: []Header{{"h", []byte("1")}}},
		{Value: []byte("no key")},
		{Key: []byte("tombstone"), Headers: []Header{{"why", []byte("deleted")}}},
		{Key: []byte{}, Value: []byte{}},
		{Key: []byte("\x00\xff\x80\xfe\x00"), Value: every, Headers: []Header{{"binary", []byte("\x00\xff\x0a")}, {"empty", []byte{}}}},
		{Key: []byte("large"), Value: noise(100_000)},
	}
	for i := 6; i < 12; i++ {
		n := fmt.Sprint(i)
		all = append(all, Record{
			Key: []byte("key-" + n), Value: []byte(strings.Repeat("value-"+n+" ", i)),
			Headers: []Header{{"n", []byte(n)}, {"m", []byte("x")}},
		})
	}
	for i := range all {
		all[i].Timestamp = First + 1000*int64(i)
	}
	return all
}

func differs(name string, got, wanted []byte) string {
	if bytes.Equal(got, wanted) && (got == nil) == (wanted == nil) {
		return ""
	}
	return fmt.Sprintf("%s is %.80q (nil: %v), not %.80q (nil: %v)", name, got, got == nil, wanted, wanted == nil)
}

// Same checks that the records are these.
func Same(got, wanted []Record) {
	Equal(len(got), len(wanted), "records")
	for i, w := range wanted {
		g := got[i]
		all := []string{differs("key", g.Key, w.Key), differs("value", g.Value, w.Value)}
		if g.Timestamp != w.Timestamp {
			all = append(all, fmt.Sprintf("timestamp is %d, not %d", g.Timestamp, w.Timestamp))
		}
		if len(g.Headers) != len(w.Headers) {
			all = append(all, fmt.Sprintf("%d headers, not %d", len(g.Headers), len(w.Headers)))
		} else {
			for j, h := range w.Headers {
				Equal(g.Headers[j].Key, h.Key, "name of a header")
				// Whether an empty header is null is lost in some clients.
				if !bytes.Equal(g.Headers[j].Value, h.Value) {
					all = append(all, differs("header "+h.Key, g.Headers[j].Value, h.Value))
				}
			}
		}
		for _, difference := range all {
			Check(difference == "", fmt.Sprintf("record %d: %s", i, difference))
		}
	}
}

type failure string

// Fail ends the case.
func Fail(why string, values ...any) { panic(failure(fmt.Sprintf(why, values...))) }

// Check ends the case unless it holds.
func Check(holds bool, what string) {
	if !holds {
		Fail("%s", what)
	}
}

// Equal ends the case unless they print the same.
func Equal(got, wanted any, what string) {
	if g, w := fmt.Sprint(got), fmt.Sprint(wanted); g != w {
		Fail("%s: %.300s, not %.300s", what, g, w)
	}
}

// OK ends the case with an error.
func OK(err error) {
	if err != nil {
		Fail("%T: %v", err, err)
	}
}

// Must returns the value, or ends the case with the error.
func Must[T any](value T, err error) T {
	OK(err)
	return value
}

// Numbers as texts.
func Numbers(count, first int) []string {
	all := make([]string, count)
	for i := range all {
		all[i] = fmt.Sprint(first + i)
	}
	return all
}

// Once is each of them, where it is first.
func Once(all []string) (once []string) {
	seen := map[string]bool{}
	for _, one := range all {
		if !seen[one] {
			seen[one] = true
			once = append(once, one)
		}
	}
	return once
}

// Sorted copy.
func Sorted[T int | int32 | string](all []T) []T {
	sorted := append([]T{}, all...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i] < sorted[j] })
	return sorted
}

// Settle waits until it holds.
func Settle(what string, holds func() bool) {
	for end := time.Now().Add(Patience); !holds(); time.Sleep(20 * time.Millisecond) {
		Check(time.Now().Before(end), "not in time: "+what)
	}
}

// Member of a group: what it has, how often it was given partitions, and how it ends.
type Member interface {
	Parts() []int32
	Turns() int
	Close()
}

// StaticReturns checks with members of these names in a group that reads four partitions: one that comes back in time has what it
// had, and the other one is not disturbed.
func StaticReturns(join func(id string) Member) {
	a := join("a")
	Settle("one has 4", func() bool { return len(a.Parts()) == 4 })
	b := join("b")
	Settle("both have 2", func() bool { return len(a.Parts()) == 2 && len(b.Parts()) == 2 })
	had, turns := b.Parts(), a.Turns()
	b.Close()
	b = join("b")
	Settle("it is back", func() bool { return len(b.Parts()) == 2 })
	// A rebalance would be told within the other one's next heartbeats.
	time.Sleep(time.Second)
	Equal(b.Parts(), had, "partitions of the one that returned")
	Equal(a.Turns(), turns, "rebalances of the other one")
	a.Close()
	b.Close()
}

// Within is a context that ends when patience does.
func Within() context.Context {
	context, cancel := context.WithTimeout(context.Background(), Patience)
	time.AfterFunc(2*Patience, cancel)
	return context
}

// Restart asks for a restart of the broker; it is true when that is up again.
func Restart() *atomic.Bool {
	done := new(atomic.Bool)
	fmt.Println("restart")
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		done.Store(true)
	}()
	return done
}

// ThroughRestart sends until 50 records after the restart of the broker that begins after 50; how many it sent.
func ThroughRestart(send func(value string)) int {
	again, more, sent := new(atomic.Bool), 50, 0
	for end := time.Now().Add(3 * Patience); more > 0; time.Sleep(20 * time.Millisecond) {
		Check(time.Now().Before(end), "not in time: the broker is back")
		send(fmt.Sprint(sent))
		sent++
		if sent == 50 {
			again = Restart()
		}
		if again.Load() {
			more--
		}
	}
	return sent
}

func one(action func()) (why string) {
	ended := make(chan string, 1)
	go func() {
		defer func() {
			switch thrown := recover().(type) {
			case nil:
				ended <- ""
			case failure:
				ended <- string(thrown)
			default:
				debug.PrintStack()
				ended <- fmt.Sprint(thrown)
			}
		}()
		action()
	}()
	select {
	case why = <-ended:
	case <-time.After(4 * Patience):
		why = "the case does not end"
	}
	return why
}

// Run runs the cases that the command line names.
func Run(cases map[string]func()) {
	for _, name := range os.Args[3:] {
		action, begin := cases[name], time.Now()
		if action == nil {
			fmt.Println("skip", name)
			continue
		}
		if why := one(action); why != "" {
			fmt.Printf("not ok %s: %.400s\n", name, strings.Join(strings.Fields(why), " "))
		} else {
			fmt.Println("ok", name)
		}
		fmt.Fprintf(os.Stderr, "%s: %.1f s\n", name, time.Since(begin).Seconds())
	}
}
