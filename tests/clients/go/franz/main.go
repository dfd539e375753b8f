// Command franz runs the cases with franz-go.
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	. "ottla.tests/clients/harness"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func client(options ...kgo.Opt) *kgo.Client {
	base := []kgo.Opt{kgo.SeedBrokers(Bootstrap), kgo.FetchMaxWait(100 * time.Millisecond), kgo.MetadataMinAge(100 * time.Millisecond)}
	return Must(kgo.NewClient(append(base, options...)...))
}

var admin = kadm.NewClient(client())

func text(s string) *string { return &s }

func create(name string, partitions int32, config map[string]string, replicas int16) error {
	configs := map[string]*string{}
	for key, value := range config {
		configs[key] = text(value)
	}
	_, err := admin.CreateTopic(Within(), partitions, replicas, configs, name)
	return err
}

func topicWith(name string, partitions int32, config map[string]string) string {
	name = Topic(name)
	OK(create(name, partitions, config, 1))
	return name
}

func make1(name string) string { return topicWith(name, 1, nil) }

// code is the error's number at Kafka.
func code(err error) int16 {
	var at *kerr.Error
	if errors.As(err, &at) {
		return at.Code
	}
	Fail("not one of Kafka's errors: %v", err)
	return 0
}

func record(name, value string) *kgo.Record { return &kgo.Record{Topic: name, Value: []byte(value)} }

func send(c *kgo.Client, name string, values []string) []*kgo.Record {
	var all []*kgo.Record
	for _, value := range values {
		all = append(all, record(name, value))
	}
	OK(c.ProduceSync(Within(), all...).FirstErr())
	return all
}

func fill(name string, values []string, options ...kgo.Opt) []*kgo.Record {
	c := client(options...)
	defer c.Close()
	return send(c, name, values)
}

func read(c *kgo.Client, count int) (got []*kgo.Record) {
	within := Within()
	for len(got) < count {
		fetches := c.PollFetches(within)
		for _, failed := range fetches.Errors() {
			OK(failed.Err)
		}
		got = append(got, fetches.Records()...)
	}
	Equal(len(got), count, "records")
	return got
}

func nothing(c *kgo.Client, wait time.Duration) {
	within, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	Equal(len(c.PollFetches(within).Records()), 0, "records that should not be there")
}

func reader(name string, partitions int, options ...kgo.Opt) *kgo.Client {
	from := map[int32]kgo.Offset{}
	for p := range partitions {
		from[int32(p)] = kgo.NewOffset().AtStart()
	}
	return client(append(options, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{name: from}))...)
}

func readAll(name string, count, partitions int, options ...kgo.Opt) []*kgo.Record {
	c := reader(name, partitions, options...)
	defer c.Close()
	got := read(c, count)
	nothing(c, 300*time.Millisecond)
	return got
}

func values(all []*kgo.Record) (values []string) {
	for _, r := range all {
		values = append(values, string(r.Value))
	}
	return values
}

func codec(name string, codec kgo.CompressionCodec) func() {
	return func() {
		name := make1("codec-" + name)
		c := client(kgo.ProducerBatchCompression(codec))
		defer c.Close()
		for _, r := range Records() {
			out := &kgo.Record{Topic: name, Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Timestamp)}
			for _, h := range r.Headers {
				out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
			}
			OK(c.ProduceSync(Within(), out).FirstErr())
		}
		var got []Record
		for i, r := range readAll(name, 12, 1) {
			Equal(r.Offset, i, "offset")
			in := Record{Key: r.Key, Value: r.Value, Timestamp: r.Timestamp.UnixMilli()}
			for _, h := range r.Headers {
				in.Headers = append(in.Headers, Header{Key: h.Key, Value: h.Value})
			}
			got = append(got, in)
		}
		Same(got, Records())
	}
}

func acks(name string, acks kgo.Acks) func() {
	return func() {
		name := make1("acks-" + name)
		reports := fill(name, Numbers(50, 0), kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite())
		for i, r := range reports {
			Check(acks == kgo.NoAck() || r.Offset == int64(i), "offsets of the reports")
		}
		Equal(values(readAll(name, 50, 1)), Numbers(50, 0), "records")
	}
}

func partitioner() {
	name := topicWith("partitioner", 3, nil)
	c := client()
	defer c.Close()
	for turn := range 2 {
		for key := range 60 {
			OK(c.ProduceSync(Within(), &kgo.Record{Topic: name, Key: fmt.Append(nil, key), Value: fmt.Append(nil, turn)}).FirstErr())
		}
	}
	where, used := map[string][]string{}, map[int32]bool{}
	for _, r := range readAll(name, 120, 3) {
		used[r.Partition] = true
		where[string(r.Key)] = append(where[string(r.Key)], fmt.Sprint(r.Partition, " ", string(r.Value)))
	}
	Equal(len(used), 3, "partitions used")
	for key, at := range where {
		Check(len(at) == 2 && strings.HasSuffix(at[0], " 0") && at[1] == strings.TrimSuffix(at[0], "0")+"1", fmt.Sprint(key, at))
	}
}

func offsets(all []*kgo.Record) (offsets []string) {
	for _, r := range all {
		offsets = append(offsets, fmt.Sprint(r.Offset))
	}
	return offsets
}

func seek() {
	name := make1("seek")
	fill(name, Numbers(10, 0))
	c := reader(name, 1)
	defer c.Close()
	read(c, 10)
	for _, offset := range []int{5, 2} {
		c.SetOffsets(map[string]map[int32]kgo.EpochOffset{name: {0: {Epoch: -1, Offset: int64(offset)}}})
		Equal(offsets(read(c, 10-offset)), Numbers(10-offset, offset), "offsets")
	}
}

func at(name string, listed kadm.ListedOffsets, err error) int64 {
	OK(err)
	OK(listed.Error())
	offset, _ := listed.Lookup(name, 0)
	return offset.Offset
}

func edges(name string) [2]int64 {
	start, err := admin.ListStartOffsets(Within(), name)
	first := at(name, start, err)
	end, err := admin.ListEndOffsets(Within(), name)
	return [2]int64{first, at(name, end, err)}
}

func watermarks() {
	name := make1("watermarks")
	Equal(edges(name), [2]int64{0, 0}, "empty")
	fill(name, Numbers(10, 0))
	Equal(edges(name), [2]int64{0, 10}, "filled")
}

func timed(name string) {
	c := client()
	defer c.Close()
	for i := range 10 {
		OK(c.ProduceSync(Within(), &kgo.Record{Topic: name, Timestamp: time.UnixMilli(First + 1000*int64(i))}).FirstErr())
	}
}

func forTime(name string, time int64) int64 {
	listed, err := admin.ListOffsetsAfterMilli(Within(), time, name)
	return at(name, listed, err)
}

func offsetsForTimes() {
	name := make1("offsets-for-times")
	timed(name)
	Equal([]int64{forTime(name, First), forTime(name, First+4500), forTime(name, First+9000)}, []int64{0, 5, 9}, "offsets")
	// Where the broker says that there is none it says the end.
	Equal(forTime(name, First+9001), 10, "after the last")
}

// member of a group: a client that is polled, and what it knows.
type member struct {
	c       *kgo.Client
	mutex   sync.Mutex
	has     map[int32]bool
	got     []*kgo.Record
	revoked []int
	turns   int
	stop    context.CancelFunc
	stopped chan struct{}
}

func join(name, group string, options ...kgo.Opt) *member {
	m := &member{has: map[int32]bool{}, stopped: make(chan struct{})}
	change := func(to bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
			m.mutex.Lock()
			defer m.mutex.Unlock()
			for _, p := range parts[name] {
				if to {
					m.has[p] = true
				} else {
					delete(m.has, p)
				}
			}
			if to {
				m.turns++
			} else if len(parts[name]) > 0 {
				m.revoked = append(m.revoked, len(parts[name]))
			}
		}
	}
	base := []kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(name), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(),
		kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)),
	}
	m.c = client(append(base, options...)...)
	polling, stop := context.WithCancel(context.Background())
	m.stop = stop
	go func() {
		defer close(m.stopped)
		for polling.Err() == nil {
			got := m.c.PollFetches(polling).Records()
			m.mutex.Lock()
			m.got = append(m.got, got...)
			m.mutex.Unlock()
		}
	}()
	return m
}

func (m *member) Parts() (parts []int32) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for p := range m.has {
		parts = append(parts, p)
	}
	return Sorted(parts)
}

// Turns is how often it was given partitions.
func (m *member) Turns() int {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.turns
}

// read is in which partitions it has read this offset.
func (m *member) read(offset int64) (parts []int32) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for _, r := range m.got {
		if r.Offset == offset {
			parts = append(parts, r.Partition)
		}
	}
	return parts
}

func (m *member) Close() {
	m.stop()
	<-m.stopped
	m.c.Close()
}

func rebalance(name string, options ...kgo.Opt) *member {
	group := Topic(name)
	topic := topicWith(name, 4, nil)
	p := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer p.Close()
	fill := func() {
		for part := range 4 {
			OK(p.ProduceSync(Within(), &kgo.Record{Topic: topic, Partition: int32(part), Value: []byte("x")}).FirstErr())
		}
	}
	fill()
	a := join(topic, group, options...)
	Settle("one has 4", func() bool { return len(a.Parts()) == 4 && len(a.read(0)) >= 4 })
	b := join(topic, group, options...)
	Settle("both have 2", func() bool {
		x, y := a.Parts(), b.Parts()
		return len(x) == 2 && len(y) == 2 && fmt.Sprint(Sorted(append(x, y...))) == "[0 1 2 3]"
	})
	fill()
	Settle("both read", func() bool {
		all := map[int32]bool{}
		for _, p := range append(a.read(1), b.read(1)...) {
			all[p] = true
		}
		return len(all) == 4
	})
	b.Close()
	Settle("the one that stays has 4", func() bool { return len(a.Parts()) == 4 })
	a.Close()
	return a
}

func groupRebalance() { rebalance("group-rebalance", kgo.Balancers(kgo.RangeBalancer())) }

func groupCooperative() {
	a := rebalance("group-cooperative", kgo.Balancers(kgo.CooperativeStickyBalancer()))
	Equal(a.revoked[0], 2, "partitions revoked when the second one joined")
}

func group848() {
	rebalance("group-848", kgo.Balancers(kgo.StickyBalancer()), kgo.ServerSideBalancer())
	groups := Must(admin.DescribeConsumerGroups(Within(), Topic("group-848")))
	OK(groups.Error())
}

func groupStatic() {
	name, group := topicWith("group-static", 4, nil), Topic("group-static")
	StaticReturns(func(id string) Member {
		return join(name, group, kgo.InstanceID(id), kgo.Balancers(kgo.RangeBalancer()))
	})
}

func groupCommit() {
	name, group := make1("group-commit"), Topic("group-commit")
	fill(name, Numbers(10, 0))
	a := join(name, group)
	Settle("10 records", func() bool { return len(a.Parts()) == 1 && len(a.got) == 10 })
	half := kadm.Offsets{}
	half.Add(kadm.Offset{Topic: name, Partition: 0, At: 5, LeaderEpoch: -1, Metadata: "half"})
	failed := make(chan error, 1)
	a.c.CommitOffsetsSync(Within(), map[string]map[int32]kgo.EpochOffset{name: {0: {Epoch: -1, Offset: 5}}}, nil)
	close(failed)
	a.Close()
	OK(Must(admin.CommitOffsets(Within(), group, half)).Error())
	b := join(name, group)
	Settle("5 records", func() bool { return len(b.read(9)) == 1 })
	Equal(offsets(b.got), Numbers(5, 5), "offsets of the new member")
	b.Close()
	committed, _ := Must(admin.FetchOffsets(Within(), group)).Lookup(name, 0)
	Equal(fmt.Sprint(committed.At, committed.Metadata), "5half", "committed")
}

func shareGroup() {
	name, group := make1("share-group"), Topic("share-group")
	members := []*kgo.Client{}
	for range 2 {
		c := client(kgo.ShareGroup(group), kgo.ConsumeTopics(name))
		defer c.Close()
		members = append(members, c)
	}
	p := client()
	defer p.Close()
	seen, released, warm := map[string][]int32{}, "", false
	Settle("20 records, one of them twice", func() bool {
		// A share group begins at the end: records count from the first that arrives.
		if !warm {
			send(p, name, []string{"warm"})
		}
		was := warm
		for _, c := range members {
			within, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
			for _, r := range c.PollFetches(within).Records() {
				value := string(r.Value)
				if value == "warm" {
					warm = true
					r.Ack(kgo.AckAccept)
					continue
				}
				seen[value] = append(seen[value], r.DeliveryCount())
				if released == "" {
					released = value
					r.Ack(kgo.AckRelease)
				} else {
					r.Ack(kgo.AckAccept)
				}
			}
			cancel()
			OK(c.FlushAcks(Within()))
		}
		if warm && !was {
			send(p, name, Numbers(20, 0))
		}
		return len(seen) == 20 && len(seen[released]) == 2
	})
	Equal(seen[released], []int32{1, 2}, "delivery counts of the one that was released")
	delete(seen, released)
	for value, counts := range seen {
		Equal(counts, []int32{1}, "delivery counts of "+value)
	}
	groups := Must(admin.DescribeShareGroups(Within(), group))
	Equal(groups[group].GroupState, "Stable", "state")
	Equal(len(groups[group].Members), 2, "members")
}

func idempotent() {
	name := make1("idempotent")
	fill(name, Numbers(200, 0))
	Equal(values(readAll(name, 200, 1)), Numbers(200, 0), "records")
}

var committed = kgo.FetchIsolationLevel(kgo.ReadCommitted())

func transactional(name string) *kgo.Client {
	return client(kgo.TransactionalID(Topic(name)), kgo.TransactionTimeout(20*time.Second), kgo.RecordPartitioner(kgo.ManualPartitioner()))
}

func txnCommit() {
	name := topicWith("txn-commit", 2, nil)
	p := transactional("txn-commit")
	defer p.Close()
	OK(p.BeginTransaction())
	for i := range 20 {
		OK(p.ProduceSync(Within(), &kgo.Record{Topic: name, Partition: int32(i % 2), Value: fmt.Append(nil, i)}).FirstErr())
	}
	c := reader(name, 2, committed)
	defer c.Close()
	nothing(c, time.Second)
	OK(p.EndTransaction(Within(), kgo.TryCommit))
	Equal(Sorted(values(read(c, 20))), Sorted(Numbers(20, 0)), "records")
}

func txnAbort() {
	name := make1("txn-abort")
	p := transactional("txn-abort")
	defer p.Close()
	for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		OK(p.BeginTransaction())
		send(p, name, Numbers(10, 10*i))
		OK(p.EndTransaction(Within(), end))
	}
	Equal(values(readAll(name, 20, 1, committed)), append(Numbers(10, 0), Numbers(10, 20)...), "committed")
	Equal(values(readAll(name, 30, 1)), Numbers(30, 0), "uncommitted")
}

func txnOffsets() {
	source, sink, group := Topic("txn-offsets.in"), make1("txn-offsets"), Topic("txn-offsets")
	OK(create(source, 1, nil, 1))
	fill(source, Numbers(10, 0))
	s := Must(kgo.NewGroupTransactSession(
		kgo.SeedBrokers(Bootstrap), kgo.TransactionalID(group), kgo.TransactionTimeout(20*time.Second), kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(source), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), committed, kgo.FetchMaxWait(100*time.Millisecond),
		kgo.RequireStableFetchOffsets(), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(300*time.Millisecond),
	))
	defer s.Close()
	for _, prefix := range []string{"aborted ", ""} {
		var got []*kgo.Record
		within := Within()
		OK(s.Begin())
		for len(got) < 10 {
			fetches := s.PollFetches(within)
			OK(fetches.Err())
			got = append(got, fetches.Records()...)
		}
		for _, r := range got {
			OK(s.ProduceSync(within, record(sink, prefix+string(r.Value))).FirstErr())
		}
		did := Must(s.End(within, kgo.TransactionEndTry(prefix == "")))
		Equal(did, prefix == "", "committed")
		Settle("the committed offset", func() bool {
			at, is := Must(admin.FetchOffsets(Within(), group)).Lookup(source, 0)
			return is == (prefix == "") && (!is || at.At == 10)
		})
	}
	Equal(values(readAll(sink, 10, 1, committed)), Numbers(10, 0), "committed")
}

func txnFencing() {
	name := make1("txn-fencing")
	old, p := transactional("txn-fencing"), transactional("txn-fencing")
	defer old.Close()
	defer p.Close()
	OK(old.BeginTransaction())
	send(old, name, Numbers(5, 0))
	OK(p.BeginTransaction())
	send(p, name, Numbers(5, 10))
	failed := old.ProduceSync(Within(), record(name, "zombie")).FirstErr()
	if failed == nil {
		failed = old.EndTransaction(Within(), kgo.TryCommit)
	}
	got := code(failed)
	Check(got == 47 || got == 90, fmt.Sprint("the error is ", failed))
	OK(p.EndTransaction(Within(), kgo.TryCommit))
	Equal(values(readAll(name, 5, 1, committed)), Numbers(5, 10), "committed")
}

func there(name string) bool { return Must(admin.ListTopics(Within())).Has(name) }

func describe(name string) kadm.TopicDetail { return Must(admin.ListTopics(Within(), name))[name] }

func adminTopics() {
	name := topicWith("admin-topics", 3, map[string]string{"cleanup.policy": "compact"})
	Check(there(name), "not listed")
	described := describe(name)
	OK(described.Err)
	Equal(described.Partitions.Numbers(), []int32{0, 1, 2}, "partitions")
	for _, p := range described.Partitions {
		Equal(p.ISR, []int32{p.Leader}, "in sync")
	}
	Must(admin.DeleteTopic(Within(), name))
	Settle("it is not listed", func() bool { return !there(name) })
	Equal(code(describe(name).Err), 3, "describing")
}

func adminPartitions() {
	name := make1("admin-partitions")
	OK(Must(admin.UpdatePartitions(Within(), 3, name)).Error())
	Settle("it has 3 partitions", func() bool { return len(describe(name).Partitions) == 3 })
	p := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer p.Close()
	for i := range 3 {
		OK(p.ProduceSync(Within(), &kgo.Record{Topic: name, Partition: int32(i), Value: fmt.Append(nil, i)}).FirstErr())
	}
	Equal(Sorted(values(readAll(name, 3, 3))), Numbers(3, 0), "records")
}

func config(all kadm.ResourceConfigs, err error) func(string) string {
	OK(err)
	OK(all[0].Err)
	return func(name string) string {
		for _, c := range all[0].Configs {
			if c.Key == name {
				return c.MaybeValue()
			}
		}
		return ""
	}
}

func adminConfigs() {
	name := topicWith("admin-configs", 1, map[string]string{"retention.ms": "1000000"})
	Equal(config(admin.DescribeTopicConfigs(Within(), name))("retention.ms"), "1000000", "before")
	altered := Must(admin.AlterTopicConfigs(Within(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: text("2000000")}}, name))
	OK(altered[0].Err)
	Settle("it is altered", func() bool { return config(admin.DescribeTopicConfigs(Within(), name))("retention.ms") == "2000000" })
	Equal(config(admin.DescribeTopicConfigs(Within(), name))("cleanup.policy"), "delete", "another one")
	broker := Must(admin.ListBrokers(Within()))[0].NodeID
	Check(config(admin.DescribeBrokerConfigs(Within(), broker))("message.max.bytes") != "", "the broker's")
}

func listed(group string) bool {
	_, is := Must(admin.ListGroups(Within()))[group]
	return is
}

func adminGroups() {
	name, group := make1("admin-groups"), Topic("admin-groups")
	m := join(name, group, kgo.ClientID("the-member"))
	Settle("assigned", func() bool { return len(m.Parts()) == 1 })
	Check(listed(group), "not listed")
	described := Must(admin.DescribeGroups(Within(), group))[group]
	Equal(described.State, "Stable", "state")
	Equal(described.Members[0].ClientID, "the-member", "member")
	Check(described.AssignedPartitions().Lookup(name, 0), "assignment")
	m.Close()
	described = Must(admin.DescribeGroups(Within(), group))[group]
	Equal(fmt.Sprint(described.State, len(described.Members)), "Empty0", "without members")
}

func adminDeleteGroup() {
	name, group := make1("admin-delete-group"), Topic("admin-delete-group")
	m := join(name, group)
	Settle("assigned", func() bool { return len(m.Parts()) == 1 })
	m.c.CommitOffsetsSync(Within(), map[string]map[int32]kgo.EpochOffset{name: {0: {Epoch: -1, Offset: 0}}}, nil)
	_, err := admin.DeleteGroup(Within(), group)
	Equal(code(err), 68, "with a member")
	m.Close()
	Must(admin.DeleteGroup(Within(), group))
	Check(!listed(group), "still listed")
}

func adminDeleteRecords() {
	name := make1("admin-delete-records")
	fill(name, Numbers(10, 0))
	to := kadm.Offsets{}
	to.Add(kadm.Offset{Topic: name, Partition: 0, At: 5})
	deleted, _ := Must(admin.DeleteRecords(Within(), to)).Lookup(name, 0)
	OK(deleted.Err)
	Equal(deleted.LowWatermark, 5, "low watermark")
	Equal(edges(name), [2]int64{5, 10}, "beginning and end")
	Equal(readAll(name, 5, 1)[0].Offset, 5, "first record")
}

func adminListOffsets() {
	name := make1("admin-list-offsets")
	timed(name)
	max, err := admin.ListMaxTimestampOffsets(Within(), name)
	Equal(fmt.Sprint(edges(name), forTime(name, First+4500), at(name, max, err)), "[0 10] 5 9", "offsets")
}

func adminCluster() {
	cluster := Must(admin.BrokerMetadata(Within()))
	Check(cluster.Cluster != "", "no cluster id")
	Equal(len(cluster.Brokers), 1, "brokers")
	Equal(fmt.Sprint(cluster.Brokers[0].Port), Bootstrap[strings.LastIndex(Bootstrap, ":")+1:], "port")
	Equal(cluster.Brokers[0].NodeID, cluster.Controller, "controller")
}

func errorUnknownTopic() {
	name := Topic("error-unknown-topic")
	p := client(kgo.UnknownTopicRetries(1))
	defer p.Close()
	Equal(code(p.ProduceSync(Within(), record(name, "x")).FirstErr()), 3, "producing")
	c := reader(name, 1, kgo.UnknownTopicRetries(1), kgo.KeepRetryableFetchErrors())
	defer c.Close()
	Equal(code(c.PollFetches(Within()).Err()), 3, "reading")
	Check(!there(name), "the topic was made")
}

func errorTooLarge() {
	name := topicWith("error-too-large", 1, map[string]string{"max.message.bytes": "10000"})
	p := client(kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DisableIdempotentWrite())
	defer p.Close()
	Equal(code(p.ProduceSync(Within(), record(name, strings.Repeat("x", 20000))).FirstErr()), 10, "20 kB")
	send(p, name, []string{"small"})
	Equal(values(readAll(name, 1, 1)), []string{"small"}, "records")
}

func errorInvalidConfig() {
	name := Topic("error-invalid-config")
	Equal(code(create(name, 1, map[string]string{"retention.ms": "soon"}, 1)), 40, "a value")
	Equal(code(create(name, 1, map[string]string{"no.such.thing": "1"}, 1)), 40, "a name")
	Check(!there(name), "the topic was made")
}

func errorAdmin() {
	name := make1("error-admin")
	Equal(code(create(name, 1, nil, 1)), 36, "again")
	Equal(code(create(name+"/", 1, nil, 1)), 17, "name")
	Equal(code(Must(admin.UpdatePartitions(Within(), 1, name)).Error()), 37, "no more partitions")
	Equal(code(create(name+"-3", 1, nil, 3)), 38, "replicas")
	_, err := admin.DeleteTopic(Within(), name+"-no")
	Equal(code(err), 3, "deletion")
}

func errorOutOfRange() {
	name := make1("error-out-of-range")
	fill(name, Numbers(3, 0))
	from := map[string]map[int32]kgo.Offset{name: {0: kgo.NewOffset().At(100)}}
	c := client(kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.ConsumePartitions(from))
	defer c.Close()
	Equal(code(c.PollFetches(Within()).Err()), 1, "reading")
}

func errorDeletedTopic() {
	name := make1("error-deleted-topic")
	fill(name, Numbers(3, 0))
	c := reader(name, 1, kgo.KeepRetryableFetchErrors(), kgo.MetadataMaxAge(500*time.Millisecond))
	defer c.Close()
	read(c, 3)
	Must(admin.DeleteTopic(Within(), name))
	within, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	for within.Err() == nil {
		fetches := c.PollFetches(within)
		Equal(len(fetches.Records()), 0, "records")
		for _, failed := range fetches.Errors() {
			if errors.Is(failed.Err, context.DeadlineExceeded) {
				continue
			}
			got := code(failed.Err)
			Check(got == 3 || got == 100, fmt.Sprint("the error is ", failed.Err))
		}
	}
}

func errorUnsupported() {
	rule := kadm.NewACLs().Topics(Topic("acl")).Allow("User:x").AllowHosts("*").Operations(kadm.OpRead).ResourcePatternType(kadm.ACLPatternLiteral)
	results, err := admin.CreateACLs(Within(), rule)
	if err == nil {
		err = results[0].Err
	}
	var at *kerr.Error
	Check(errors.As(err, &at) && at.Code == 54 || strings.Contains(fmt.Sprint(err), "broker is too old"), fmt.Sprint("the error is ", err))
}

// Produces while the broker is started again, with something to do after each, and then everything is delivered; how many values
// there were.
func produceThroughRestart(topic string, after func()) int {
	c := client(kgo.RequiredAcks(kgo.AllISRAcks()))
	defer c.Close()
	var failed error
	var mutex sync.Mutex
	count := ThroughRestart(func(value string) {
		c.Produce(context.Background(), record(topic, value), func(_ *kgo.Record, err error) {
			mutex.Lock()
			failed = errors.Join(failed, err)
			mutex.Unlock()
		})
		after()
	})
	OK(c.Flush(Within()))
	OK(failed)
	return count
}

func restart() {
	name := make1("restart")
	count := produceThroughRestart(name, func() {})
	Equal(values(readAll(name, count, 1)), Numbers(count, 0), "records")
}

func kill() {
	name, group := make1("kill"), Topic("kill")
	m := join(name, group)
	count := produceThroughRestart(name, func() {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		if len(m.got) > 0 {
			last := m.got[len(m.got)-1]
			m.c.CommitOffsets(context.Background(), map[string]map[int32]kgo.EpochOffset{name: {0: {Epoch: -1, Offset: last.Offset + 1}}}, nil)
		}
	})
	read := func() []string {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		return Once(values(m.got))
	}
	Settle("the member reads all", func() bool { return len(read()) >= count })
	Equal(read(), Numbers(count, 0), "records of the member")
	Settle("the commit", func() bool {
		m.c.CommitOffsetsSync(Within(), map[string]map[int32]kgo.EpochOffset{name: {0: {Epoch: -1, Offset: int64(count)}}}, nil)
		// A connection of before the restart may end with the question.
		fetched, err := admin.FetchOffsets(Within(), group)
		committed, found := fetched.Lookup(name, 0)
		return err == nil && found && committed.At == int64(count)
	})
	m.Close()
	Equal(values(readAll(name, count, 1)), Numbers(count, 0), "records")
}

func main() {
	Run(map[string]func(){
		"codec-none": codec("none", kgo.NoCompression()), "codec-gzip": codec("gzip", kgo.GzipCompression()),
		"codec-snappy": codec("snappy", kgo.SnappyCompression()), "codec-lz4": codec("lz4", kgo.Lz4Compression()),
		"codec-zstd": codec("zstd", kgo.ZstdCompression()),
		"acks-0":     acks("0", kgo.NoAck()), "acks-1": acks("1", kgo.LeaderAck()), "acks-all": acks("all", kgo.AllISRAcks()),
		"partitioner": partitioner, "seek": seek, "watermarks": watermarks, "offsets-for-times": offsetsForTimes,
		"group-rebalance": groupRebalance, "group-cooperative": groupCooperative, "group-static": groupStatic,
		"group-commit": groupCommit, "group-848": group848, "share-group": shareGroup,
		"idempotent": idempotent, "txn-commit": txnCommit, "txn-abort": txnAbort, "txn-offsets": txnOffsets, "txn-fencing": txnFencing,
		"admin-topics": adminTopics, "admin-partitions": adminPartitions, "admin-configs": adminConfigs, "admin-groups": adminGroups,
		"admin-delete-group": adminDeleteGroup, "admin-delete-records": adminDeleteRecords, "admin-list-offsets": adminListOffsets,
		"admin-cluster":       adminCluster,
		"error-unknown-topic": errorUnknownTopic, "error-too-large": errorTooLarge, "error-invalid-config": errorInvalidConfig,
		"error-admin": errorAdmin, "error-out-of-range": errorOutOfRange, "error-deleted-topic": errorDeletedTopic,
		"error-unsupported": errorUnsupported,
		"restart":           restart, "kill": kill,
	})
}
