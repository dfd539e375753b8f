// Command sarama runs the cases with sarama.
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "ottla.tests/clients/harness"

	"github.com/IBM/sarama"
)

func config(set ...func(*sarama.Config)) *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.V4_0_0_0
	c.ClientID = "sarama"
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	c.Producer.Flush.Frequency = 2 * time.Millisecond
	c.Consumer.Return.Errors = true
	c.Consumer.MaxWaitTime = 100 * time.Millisecond
	c.Consumer.Retry.Backoff = 100 * time.Millisecond
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Group.Session.Timeout = 6 * time.Second
	c.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	c.Metadata.AllowAutoTopicCreation = false
	c.Metadata.Retry.Max = 3
	c.Metadata.Retry.Backoff = 100 * time.Millisecond
	for _, s := range set {
		s(c)
	}
	return c
}

func seeds() []string { return []string{Bootstrap} }

var admin = Must(sarama.NewClusterAdmin(seeds(), config()))

func code(err error) int {
	var at sarama.KError
	if errors.As(err, &at) {
		return int(at)
	}
	var topic *sarama.TopicError
	if errors.As(err, &topic) {
		return int(topic.Err)
	}
	var partition *sarama.TopicPartitionError
	if errors.As(err, &partition) {
		return int(partition.Err)
	}
	Fail("not one of Kafka's errors: %T %v", err, err)
	return 0
}

func create(name string, partitions int32, config map[string]string, replicas int16) error {
	entries := map[string]*string{}
	for key, value := range config {
		entries[key] = &value
	}
	return admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: replicas, ConfigEntries: entries}, false)
}

func topicWith(name string, partitions int32, config map[string]string) string {
	name = Topic(name)
	OK(create(name, partitions, config, 1))
	return name
}

func make1(name string) string { return topicWith(name, 1, nil) }

func producer(set ...func(*sarama.Config)) sarama.SyncProducer {
	return Must(sarama.NewSyncProducer(seeds(), config(set...)))
}

func manual(c *sarama.Config) { c.Producer.Partitioner = sarama.NewManualPartitioner }

func message(name, value string) *sarama.ProducerMessage {
	return &sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder(value)}
}

func messages(name string, values []string) (all []*sarama.ProducerMessage) {
	for _, value := range values {
		all = append(all, message(name, value))
	}
	return all
}

func fill(name string, values []string, set ...func(*sarama.Config)) []*sarama.ProducerMessage {
	p := producer(set...)
	defer p.Close()
	all := messages(name, values)
	OK(p.SendMessages(all))
	return all
}

// reader of a partition from an offset.
type reader struct {
	c sarama.Consumer
	p sarama.PartitionConsumer
}

func from(name string, partition int32, offset int64, set ...func(*sarama.Config)) *reader {
	c := Must(sarama.NewConsumer(seeds(), config(set...)))
	return &reader{c, Must(c.ConsumePartition(name, partition, offset))}
}

func (r *reader) Close() {
	_ = r.p.Close()
	_ = r.c.Close()
}

func (r *reader) read(count int) (got []*sarama.ConsumerMessage) {
	late := time.After(Patience)
	for len(got) < count {
		select {
		case m := <-r.p.Messages():
			got = append(got, m)
		case err := <-r.p.Errors():
			Fail("%v", err)
		case <-late:
			Fail("not in time: %d records, there are %d", count, len(got))
		}
	}
	return got
}

func (r *reader) nothing(wait time.Duration) {
	select {
	case m := <-r.p.Messages():
		Fail("a record that should not be there: %s", m.Value)
	case <-time.After(wait):
	}
}

func readAll(name string, count int, set ...func(*sarama.Config)) []*sarama.ConsumerMessage {
	r := from(name, 0, sarama.OffsetOldest, set...)
	defer r.Close()
	got := r.read(count)
	r.nothing(300 * time.Millisecond)
	return got
}

func values(all []*sarama.ConsumerMessage) (values []string) {
	for _, m := range all {
		values = append(values, string(m.Value))
	}
	return values
}

func encoder(bytes []byte) sarama.Encoder {
	if bytes == nil {
		return nil
	}
	return sarama.ByteEncoder(bytes)
}

func codec(name string, codec sarama.CompressionCodec) func() {
	return func() {
		name := make1("codec-" + name)
		p := producer(func(c *sarama.Config) { c.Producer.Compression = codec })
		defer p.Close()
		for _, r := range Records() {
			m := &sarama.ProducerMessage{Topic: name, Key: encoder(r.Key), Value: encoder(r.Value), Timestamp: time.UnixMilli(r.Timestamp)}
			for _, h := range r.Headers {
				m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
			}
			_, _, err := p.SendMessage(m)
			OK(err)
		}
		var got []Record
		for i, m := range readAll(name, 12) {
			Equal(m.Offset, i, "offset")
			in := Record{Key: m.Key, Value: m.Value, Timestamp: m.Timestamp.UnixMilli()}
			for _, h := range m.Headers {
				in.Headers = append(in.Headers, Header{Key: string(h.Key), Value: h.Value})
			}
			got = append(got, in)
		}
		Same(got, Records())
	}
}

func acks(name string, acks sarama.RequiredAcks) func() {
	return func() {
		name := make1("acks-" + name)
		reports := fill(name, Numbers(50, 0), func(c *sarama.Config) { c.Producer.RequiredAcks = acks })
		for i, m := range reports {
			Check(acks == sarama.NoResponse || m.Offset == int64(i), "offsets of the reports")
		}
		Equal(values(readAll(name, 50)), Numbers(50, 0), "records")
	}
}

func partitioner() {
	name := topicWith("partitioner", 3, nil)
	p := producer()
	defer p.Close()
	counts := make([]int, 3)
	for turn := range 2 {
		for key := range 60 {
			part, _ := Must2(p.SendMessage(&sarama.ProducerMessage{Topic: name, Key: sarama.StringEncoder(fmt.Sprint(key)), Value: sarama.StringEncoder(fmt.Sprint(turn))}))
			counts[part]++
		}
	}
	where := map[string][]string{}
	for part, count := range counts {
		Check(count > 0, "partitions used")
		r := from(name, int32(part), sarama.OffsetOldest)
		for _, m := range r.read(count) {
			where[string(m.Key)] = append(where[string(m.Key)], fmt.Sprint(part, " ", string(m.Value)))
		}
		r.Close()
	}
	Equal(len(where), 60, "keys")
	for key, at := range where {
		Check(len(at) == 2 && strings.HasSuffix(at[0], " 0") && at[1] == strings.TrimSuffix(at[0], "0")+"1", fmt.Sprint(key, at))
	}
}

// Must2 is Must for two values.
func Must2[A, B any](a A, b B, err error) (A, B) {
	OK(err)
	return a, b
}

func seek() {
	// What it has for a seek is to consume a partition from an offset.
	name := make1("seek")
	fill(name, Numbers(10, 0))
	c := Must(sarama.NewConsumer(seeds(), config()))
	defer c.Close()
	for _, offset := range []int{0, 5, 2} {
		r := reader{c, Must(c.ConsumePartition(name, 0, int64(offset)))}
		for i, m := range r.read(10 - offset) {
			Equal(m.Offset, offset+i, "offset")
		}
		OK(r.p.Close())
	}
}

func offset(name string, time int64) int64 {
	c := Must(sarama.NewClient(seeds(), config()))
	defer c.Close()
	return Must(c.GetOffset(name, 0, time))
}

func edges(name string) [2]int64 {
	return [2]int64{offset(name, sarama.OffsetOldest), offset(name, sarama.OffsetNewest)}
}

func watermarks() {
	name := make1("watermarks")
	Equal(edges(name), [2]int64{0, 0}, "empty")
	fill(name, Numbers(10, 0))
	Equal(edges(name), [2]int64{0, 10}, "filled")
}

func timed(name string) {
	p := producer()
	defer p.Close()
	for i := range 10 {
		m := message(name, "x")
		m.Timestamp = time.UnixMilli(First + 1000*int64(i))
		Must2(p.SendMessage(m))
	}
}

func offsetsForTimes() {
	name := make1("offsets-for-times")
	timed(name)
	asked := []int64{}
	for _, time := range []int64{First, First + 4500, First + 9000, First + 9001} {
		asked = append(asked, offset(name, time))
	}
	Equal(asked, []int64{0, 5, 9, -1}, "offsets")
}

// member of a group.
type member struct {
	name    string
	group   sarama.ConsumerGroup
	stop    context.CancelFunc
	stopped chan struct{}
	mutex   sync.Mutex
	has     []int32
	got     []*sarama.ConsumerMessage
	turns   int
	marks   func(sarama.ConsumerGroupSession)
}

func (m *member) Setup(s sarama.ConsumerGroupSession) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.has, m.turns = Sorted(s.Claims()[m.name]), m.turns+1
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.has = nil
	return nil
}

func (m *member) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for got := range claim.Messages() {
		m.mutex.Lock()
		m.got = append(m.got, got)
		if m.marks != nil {
			m.marks(s)
		}
		m.mutex.Unlock()
	}
	return nil
}

func join(name, group string, marks func(sarama.ConsumerGroupSession), set ...func(*sarama.Config)) *member {
	m := &member{name: name, stopped: make(chan struct{}), marks: marks}
	m.group = Must(sarama.NewConsumerGroup(seeds(), group, config(set...)))
	within, stop := context.WithCancel(context.Background())
	m.stop = stop
	go func() {
		for range m.group.Errors() {
		}
	}()
	go func() {
		defer close(m.stopped)
		for within.Err() == nil {
			if err := m.group.Consume(within, []string{name}, m); err != nil {
				time.Sleep(50 * time.Millisecond)
			}
		}
	}()
	return m
}

func (m *member) Parts() []int32 {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return append([]int32{}, m.has...)
}

// Turns is how often it was given partitions.
func (m *member) Turns() int {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.turns
}

// read is in which partitions it has read this offset.
func (m *member) read(offset int64) map[int32]bool {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	parts := map[int32]bool{}
	for _, r := range m.got {
		if r.Offset == offset {
			parts[r.Partition] = true
		}
	}
	return parts
}

func (m *member) Close() {
	m.stop()
	<-m.stopped
	_ = m.group.Close()
}

func fillParts(name string) {
	p := producer(manual)
	defer p.Close()
	for part := range 4 {
		m := message(name, "x")
		m.Partition = int32(part)
		Must2(p.SendMessage(m))
	}
}

func groupRebalance() {
	name, group := topicWith("group-rebalance", 4, nil), Topic("group-rebalance")
	fillParts(name)
	a := join(name, group, nil)
	Settle("one has 4", func() bool { return len(a.Parts()) == 4 && len(a.read(0)) >= 4 })
	b := join(name, group, nil)
	Settle("both have 2", func() bool {
		x, y := a.Parts(), b.Parts()
		return len(x) == 2 && len(y) == 2 && fmt.Sprint(Sorted(append(x, y...))) == "[0 1 2 3]"
	})
	fillParts(name)
	Settle("both read", func() bool { return len(a.read(1))+len(b.read(1)) >= 4 })
	b.Close()
	Settle("the one that stays has 4", func() bool { return len(a.Parts()) == 4 })
	a.Close()
}

func groupStatic() {
	name, group := topicWith("group-static", 4, nil), Topic("group-static")
	StaticReturns(func(id string) Member {
		return join(name, group, nil, func(c *sarama.Config) { c.Consumer.Group.InstanceId = id })
	})
}

func committed(group, name string) *sarama.OffsetFetchResponseBlock {
	return Must(admin.ListConsumerGroupOffsets(group, map[string][]int32{name: {0}})).GetBlock(name, 0)
}

func groupCommit() {
	name, group := make1("group-commit"), Topic("group-commit")
	fill(name, Numbers(10, 0))
	commit := func(s sarama.ConsumerGroupSession) {
		s.MarkOffset(name, 0, 5, "half")
		s.Commit()
	}
	a := join(name, group, commit)
	Settle("10 records", func() bool { return len(a.read(9)) == 1 })
	a.Close()
	b := join(name, group, nil)
	Settle("5 records", func() bool { return len(b.read(9)) == 1 })
	Equal(values(b.got), Numbers(5, 5), "records of the new member")
	b.Close()
	at := committed(group, name)
	Equal(fmt.Sprint(at.Offset, at.Metadata), "5half", "committed")
}

func once(c *sarama.Config) {
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
}

func idempotent() {
	name := make1("idempotent")
	fill(name, Numbers(200, 0), once)
	Equal(values(readAll(name, 200)), Numbers(200, 0), "records")
}

func readCommitted(c *sarama.Config) { c.Consumer.IsolationLevel = sarama.ReadCommitted }

func transactional(name string, set ...func(*sarama.Config)) sarama.SyncProducer {
	return producer(append(set, once, func(c *sarama.Config) {
		c.Producer.Transaction.ID = Topic(name)
		c.Producer.Transaction.Timeout = 20 * time.Second
		c.Producer.Transaction.Retry.Backoff = 50 * time.Millisecond
	})...)
}

func txnCommit() {
	name := topicWith("txn-commit", 2, nil)
	p := transactional("txn-commit", manual)
	defer p.Close()
	OK(p.BeginTxn())
	all := messages(name, Numbers(20, 0))
	for i := range all {
		all[i].Partition = int32(i % 2)
	}
	OK(p.SendMessages(all))
	a, b := from(name, 0, 0, readCommitted), from(name, 1, 0, readCommitted)
	defer a.Close()
	defer b.Close()
	a.nothing(500 * time.Millisecond)
	b.nothing(500 * time.Millisecond)
	OK(p.CommitTxn())
	Equal(Sorted(append(values(a.read(10)), values(b.read(10))...)), Sorted(Numbers(20, 0)), "records")
}

func txnAbort() {
	name := make1("txn-abort")
	p := transactional("txn-abort")
	defer p.Close()
	for i, end := range []func() error{p.CommitTxn, p.AbortTxn, p.CommitTxn} {
		OK(p.BeginTxn())
		OK(p.SendMessages(messages(name, Numbers(10, 10*i))))
		OK(end())
	}
	Equal(values(readAll(name, 20, readCommitted)), append(Numbers(10, 0), Numbers(10, 20)...), "committed")
	Equal(values(readAll(name, 30)), Numbers(30, 0), "uncommitted")
}

func txnOffsets() {
	source, sink, group := Topic("txn-offsets.in"), make1("txn-offsets"), Topic("txn-offsets")
	OK(create(source, 1, nil, 1))
	fill(source, Numbers(10, 0))
	p := transactional("txn-offsets")
	defer p.Close()
	for _, prefix := range []string{"aborted ", ""} {
		c := join(source, group, nil)
		Settle("10 records", func() bool { return len(c.read(9)) == 1 })
		c.Close()
		OK(p.BeginTxn())
		for _, m := range c.got {
			Must2(p.SendMessage(message(sink, prefix+string(m.Value))))
		}
		OK(p.AddMessageToTxn(c.got[9], group, nil))
		at := int64(10)
		if prefix == "" {
			OK(p.CommitTxn())
		} else {
			OK(p.AbortTxn())
			at = -1
		}
		Settle("the committed offset", func() bool { return committed(group, source).Offset == at })
	}
	Equal(values(readAll(sink, 10, readCommitted)), Numbers(10, 0), "committed")
}

func txnFencing() {
	name := make1("txn-fencing")
	old := transactional("txn-fencing")
	OK(old.BeginTxn())
	OK(old.SendMessages(messages(name, Numbers(5, 0))))
	p := transactional("txn-fencing")
	defer p.Close()
	err := old.SendMessages(messages(name, Numbers(5, 5)))
	if err == nil {
		err = old.CommitTxn()
	}
	Check(err != nil, "the old one goes on")
	said := fmt.Sprint(err)
	var several sarama.ProducerErrors
	if errors.As(err, &several) {
		said = fmt.Sprint(several[0].Err)
	}
	Check(strings.Contains(said, "epoch") || strings.Contains(said, "fence"), "the error is "+said)
	OK(p.BeginTxn())
	OK(p.SendMessages(messages(name, Numbers(5, 10))))
	OK(p.CommitTxn())
	Equal(values(readAll(name, 5, readCommitted)), Numbers(5, 10), "committed")
}

func there(name string) bool {
	_, is := Must(admin.ListTopics())[name]
	return is
}

func describe(name string) *sarama.TopicMetadata {
	return Must(admin.DescribeTopics([]string{name}))[0]
}

func adminTopics() {
	name := topicWith("admin-topics", 3, map[string]string{"cleanup.policy": "compact"})
	Check(there(name), "not listed")
	described := describe(name)
	Equal(len(described.Partitions), 3, "partitions")
	for _, p := range described.Partitions {
		Equal(p.Isr, []int32{p.Leader}, "in sync")
	}
	OK(admin.DeleteTopic(name))
	Settle("it is not listed", func() bool { return !there(name) })
	Equal(int(describe(name).Err), 3, "describing")
}

func adminPartitions() {
	name := make1("admin-partitions")
	OK(admin.CreatePartitions(name, 3, nil, false))
	Settle("it has 3 partitions", func() bool { return len(describe(name).Partitions) == 3 })
	p := producer(manual)
	defer p.Close()
	for part := range 3 {
		m := message(name, fmt.Sprint(part))
		m.Partition = int32(part)
		Must2(p.SendMessage(m))
		r := from(name, int32(part), 0)
		Equal(values(r.read(1)), []string{fmt.Sprint(part)}, "records")
		r.Close()
	}
}

func configOf(kind sarama.ConfigResourceType, name, entry string) string {
	for _, e := range Must(admin.DescribeConfig(sarama.ConfigResource{Type: kind, Name: name})) {
		if e.Name == entry {
			return e.Value
		}
	}
	return ""
}

func adminConfigs() {
	name := topicWith("admin-configs", 1, map[string]string{"retention.ms": "1000000"})
	Equal(configOf(sarama.TopicResource, name, "retention.ms"), "1000000", "before")
	value := "2000000"
	OK(admin.IncrementalAlterConfig(sarama.TopicResource, name, map[string]sarama.IncrementalAlterConfigsEntry{
		"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value},
	}, false))
	Settle("it is altered", func() bool { return configOf(sarama.TopicResource, name, "retention.ms") == value })
	Equal(configOf(sarama.TopicResource, name, "cleanup.policy"), "delete", "another one")
	_, controller := Must2(admin.DescribeCluster())
	Check(configOf(sarama.BrokerResource, fmt.Sprint(controller), "message.max.bytes") != "", "the broker's")
}

func listed(group string) bool {
	_, is := Must(admin.ListConsumerGroups())[group]
	return is
}

func adminGroups() {
	name, group := make1("admin-groups"), Topic("admin-groups")
	m := join(name, group, nil)
	Settle("assigned", func() bool { return len(m.Parts()) == 1 })
	Check(listed(group), "not listed")
	described := Must(admin.DescribeConsumerGroups([]string{group}))[0]
	Equal(described.State, "Stable", "state")
	for _, other := range described.Members {
		Equal(other.ClientId, "sarama", "member")
		Equal(Must(other.GetMemberAssignment()).Topics[name], []int32{0}, "assignment")
	}
	m.Close()
	described = Must(admin.DescribeConsumerGroups([]string{group}))[0]
	Equal(fmt.Sprint(described.State, len(described.Members)), "Empty0", "without members")
}

func adminDeleteGroup() {
	name, group := make1("admin-delete-group"), Topic("admin-delete-group")
	fill(name, Numbers(1, 0))
	m := join(name, group, func(s sarama.ConsumerGroupSession) {
		s.MarkOffset(name, 0, 1, "")
		s.Commit()
	})
	Settle("committed", func() bool { return committed(group, name).Offset == 1 })
	Equal(code(admin.DeleteConsumerGroup(group)), 68, "with a member")
	m.Close()
	OK(admin.DeleteConsumerGroup(group))
	Check(!listed(group), "still listed")
}

func adminDeleteRecords() {
	name := make1("admin-delete-records")
	fill(name, Numbers(10, 0))
	OK(admin.DeleteRecords(name, map[int32]int64{0: 5}))
	Equal(edges(name), [2]int64{5, 10}, "beginning and end")
	Equal(readAll(name, 5)[0].Offset, 5, "first record")
}

func adminListOffsets() {
	name := make1("admin-list-offsets")
	timed(name)
	Equal(fmt.Sprint(edges(name), offset(name, First+4500)), "[0 10] 5", "offsets")
}

func adminCluster() {
	brokers, controller := Must2(admin.DescribeCluster())
	Equal(len(brokers), 1, "brokers")
	Equal(brokers[0].Addr(), Bootstrap, "address")
	Equal(brokers[0].ID(), controller, "controller")
}

func errorUnknownTopic() {
	name := Topic("error-unknown-topic")
	p := producer(func(c *sarama.Config) { c.Producer.Retry.Max = 1 })
	defer p.Close()
	_, _, err := p.SendMessage(message(name, "x"))
	Equal(code(err), 3, "producing")
	c := Must(sarama.NewConsumer(seeds(), config()))
	defer c.Close()
	_, err = c.ConsumePartition(name, 0, 0)
	Equal(code(err), 3, "reading")
	Check(!there(name), "the topic was made")
}

func errorTooLarge() {
	name := topicWith("error-too-large", 1, map[string]string{"max.message.bytes": "10000"})
	p := producer()
	defer p.Close()
	_, _, err := p.SendMessage(message(name, strings.Repeat("x", 20000)))
	Equal(code(err), 10, "20 kB")
	Must2(p.SendMessage(message(name, "small")))
	Equal(values(readAll(name, 1)), []string{"small"}, "records")
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
	Equal(code(admin.CreatePartitions(name, 1, nil, false)), 37, "no more partitions")
	Equal(code(create(name+"-3", 1, nil, 3)), 38, "replicas")
	Equal(code(admin.DeleteTopic(name+"-no")), 3, "deletion")
}

func errorOutOfRange() {
	name := make1("error-out-of-range")
	fill(name, Numbers(3, 0))
	c := Must(sarama.NewConsumer(seeds(), config()))
	defer c.Close()
	_, err := c.ConsumePartition(name, 0, 100)
	Equal(code(err), 1, "reading")
}

func errorDeletedTopic() {
	name := make1("error-deleted-topic")
	fill(name, Numbers(3, 0))
	r := from(name, 0, 0, func(c *sarama.Config) { c.Metadata.RefreshFrequency = 500 * time.Millisecond })
	r.read(3)
	OK(admin.DeleteTopic(name))
	for late := time.After(3 * time.Second); ; {
		select {
		case m, is := <-r.p.Messages():
			Check(!is, fmt.Sprint("a record: ", m))
			time.Sleep(50 * time.Millisecond)
		case err, is := <-r.p.Errors():
			if is {
				got := code(err.Err)
				Check(got == 3 || got == 100, fmt.Sprint("the error is ", err))
			} else {
				time.Sleep(50 * time.Millisecond)
			}
		case <-late:
			go r.Close()
			return
		}
	}
}

func errorUnsupported() {
	err := admin.CreateACL(
		sarama.Resource{ResourceType: sarama.AclResourceTopic, ResourceName: Topic("acl"), ResourcePatternType: sarama.AclPatternLiteral},
		sarama.Acl{Principal: "User:x", Host: "*", Operation: sarama.AclOperationRead, PermissionType: sarama.AclPermissionAllow},
	)
	Check(err != nil, "no error")
	var at sarama.KError
	Check(!errors.As(err, &at) || at == sarama.ErrSecurityDisabled || at == sarama.ErrUnsupportedVersion, fmt.Sprint("the error is ", err))
}

// What goes on while the broker is away has to ask for it for long enough.
func again(c *sarama.Config) { c.Metadata.Retry.Max = 300 }

// Produces while the broker is started again, and then everything is delivered; how many values there were.
func produceThroughRestart(topic string) int {
	p := Must(sarama.NewAsyncProducer(seeds(), config(once, again, func(c *sarama.Config) {
		c.Producer.Retry.Max = 100
		c.Producer.Retry.Backoff = 200 * time.Millisecond
	})))
	done, failed := atomic.Int64{}, make(chan error, 1000)
	both := sync.WaitGroup{}
	both.Go(func() {
		for range p.Successes() {
			done.Add(1)
		}
	})
	both.Go(func() {
		for err := range p.Errors() {
			failed <- err
		}
	})
	count := ThroughRestart(func(value string) { p.Input() <- message(topic, value) })
	// What it sends again it refuses once it is closed.
	Settle("all are delivered", func() bool { return int(done.Load())+len(failed) >= count })
	p.AsyncClose()
	both.Wait()
	if len(failed) > 0 {
		OK(<-failed)
	}
	return count
}

func restart() {
	name := make1("restart")
	count := produceThroughRestart(name)
	Equal(values(readAll(name, count)), Numbers(count, 0), "records")
}

func kill() {
	name, group := make1("kill"), Topic("kill")
	var m *member
	m = join(name, group, func(s sarama.ConsumerGroupSession) {
		s.MarkMessage(m.got[len(m.got)-1], "")
		s.Commit()
	}, again)
	count := produceThroughRestart(name)
	read := func() []string {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		return Once(values(m.got))
	}
	Settle("the member reads all", func() bool { return len(read()) >= count })
	Equal(read(), Numbers(count, 0), "records of the member")
	late := Must(sarama.NewClusterAdmin(seeds(), config()))
	defer late.Close()
	Settle("the commit", func() bool {
		committed := Must(late.ListConsumerGroupOffsets(group, map[string][]int32{name: {0}})).GetBlock(name, 0)
		return committed.Offset == int64(count)
	})
	m.Close()
	Equal(values(readAll(name, count)), Numbers(count, 0), "records")
}

func main() {
	Run(map[string]func(){
		"codec-none": codec("none", sarama.CompressionNone), "codec-gzip": codec("gzip", sarama.CompressionGZIP),
		"codec-snappy": codec("snappy", sarama.CompressionSnappy), "codec-lz4": codec("lz4", sarama.CompressionLZ4),
		"codec-zstd": codec("zstd", sarama.CompressionZSTD),
		"acks-0":     acks("0", sarama.NoResponse), "acks-1": acks("1", sarama.WaitForLocal), "acks-all": acks("all", sarama.WaitForAll),
		"partitioner": partitioner, "seek": seek, "watermarks": watermarks, "offsets-for-times": offsetsForTimes,
		"group-rebalance": groupRebalance, "group-static": groupStatic, "group-commit": groupCommit,
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
