// sarama-smoke: contents, order and errors seen through IBM/sarama (MIT). Run by the script of the same name.
//
// sync/VERSION/CODEC  idempotent producer, one by one then one call of 900, read back: order, key, headers, time
// async/CODEC         20000 messages, every ack at the next offset, read back
// group/STRATEGY      a second member joins, the first leaves: no loss, nothing twice, committed offsets and metadata
// txn/*               commit, abort, offsets in a transaction, read_committed; a second producer fences the first
// admin/*             topics, their configs and errors; offsets by time, DeleteRecords
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

var (
	brokers = []string{os.Args[1]}
	only    = os.Args[2:]
	run     = time.Now().UnixNano()
	count   = map[string]int{}
)

func check(name string, f func() error) {
	if len(only) > 0 && !slices.Contains(only, name) {
		return
	}
	start, done := time.Now(), make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Errorf("panic: %v", r)
			}
		}()
		done <- f()
	}()
	verdict, err := "pass", error(nil)
	select {
	case err = <-done:
	case <-time.After(60 * time.Second):
		err = errors.New("timed out")
	}
	if err != nil {
		verdict = "fail"
		fmt.Fprintln(os.Stderr, name, err)
	}
	count[verdict]++
	fmt.Printf("%s %s %.1f\n", verdict, name, time.Since(start).Seconds())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func config(v sarama.KafkaVersion) *sarama.Config {
	c := sarama.NewConfig()
	c.Version = v
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Group.Rebalance.Timeout = 10 * time.Second
	c.Consumer.Return.Errors = false
	c.Producer.Return.Successes = true
	return c
}

func idempotent(v sarama.KafkaVersion, codec sarama.CompressionCodec) *sarama.Config {
	c := config(v)
	c.Producer.Idempotent, c.Net.MaxOpenRequests = true, 1
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Compression = codec
	return c
}

func admin() sarama.ClusterAdmin {
	return must(sarama.NewClusterAdmin(brokers, config(sarama.MaxVersion)))
}

func topic(name string, parts int32) string {
	t := fmt.Sprintf("sarama-%s-%d", name, run)
	a := admin()
	defer a.Close()
	if err := a.CreateTopic(t, &sarama.TopicDetail{NumPartitions: parts, ReplicationFactor: 1}, false); err != nil {
		panic(err)
	}
	return t
}

func message(t string, part int32, i int) *sarama.ProducerMessage {
	return &sarama.ProducerMessage{Topic: t, Partition: part, Key: sarama.StringEncoder(fmt.Sprint("key-", i)),
		Value:     sarama.StringEncoder(fmt.Sprint("value-", i, strings.Repeat("x", i%300))),
		Headers:   []sarama.RecordHeader{{Key: []byte("i"), Value: []byte(fmt.Sprint(i))}},
		Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i))}
}

// read returns the values of one partition from its start up to the newest offset, checking order, key, headers, time.
func read(t string, part int32, c *sarama.Config) ([]string, error) {
	client := must(sarama.NewClient(brokers, c))
	defer client.Close()
	end := must(client.GetOffset(t, part, sarama.OffsetNewest))
	begin := must(client.GetOffset(t, part, sarama.OffsetOldest))
	consumer := must(sarama.NewConsumerFromClient(client))
	pc := must(consumer.ConsumePartition(t, part, sarama.OffsetOldest))
	defer pc.Close()
	var values []string
	last := begin - 1
	for last < end-1 {
		select {
		case m := <-pc.Messages():
			var i int
			fmt.Sscanf(string(m.Value), "value-%d", &i)
			if m.Offset <= last || string(m.Key) != fmt.Sprint("key-", i) || len(m.Headers) != 1 ||
				string(m.Headers[0].Value) != fmt.Sprint(i) || m.Timestamp.UnixMilli() != 1_700_000_000_000+int64(i) {
				return nil, fmt.Errorf("offset %d after %d: key %q headers %v time %v value %.20q", m.Offset, last, m.Key, m.Headers, m.Timestamp, m.Value)
			}
			last = m.Offset
			values = append(values, string(m.Value))
		case <-time.After(3 * time.Second): // the tail may be control records or an aborted transaction
			return values, nil
		}
	}
	return values, nil
}

func expect(got []string, t string, wanted ...int) error {
	var want []string
	for _, i := range wanted {
		want = append(want, string(message(t, 0, i).Value.(sarama.StringEncoder)))
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("got %d values, want %d", len(got), len(want))
	}
	return nil
}

func span(from, to int) (r []int) {
	for i := from; i < to; i++ {
		r = append(r, i)
	}
	return
}

func produceSync(v sarama.KafkaVersion, codec sarama.CompressionCodec) error {
	t, c := topic(fmt.Sprintf("sync-%s-%s", codec, v), 1), idempotent(v, codec)
	p := must(sarama.NewSyncProducer(brokers, c))
	defer p.Close()
	for i := range 100 {
		if _, offset, err := p.SendMessage(message(t, 0, i)); err != nil || offset != int64(i) {
			return fmt.Errorf("message %d at %d: %v", i, offset, err)
		}
	}
	var batch []*sarama.ProducerMessage
	for i := 100; i < 1000; i++ {
		batch = append(batch, message(t, 0, i))
	}
	if err := p.SendMessages(batch); err != nil {
		return err
	}
	got, err := read(t, 0, config(v))
	return errors.Join(err, expect(got, t, span(0, 1000)...))
}

func produceAsync(codec sarama.CompressionCodec) error {
	t, c := topic(fmt.Sprint("async-", codec), 1), idempotent(sarama.MaxVersion, codec)
	p := must(sarama.NewAsyncProducer(brokers, c))
	go func() {
		for i := range 20000 {
			p.Input() <- message(t, 0, i)
		}
	}()
	for i := range 20000 {
		select {
		case m := <-p.Successes():
			if m.Offset != int64(i) {
				return fmt.Errorf("ack %d has offset %d", i, m.Offset)
			}
		case err := <-p.Errors():
			return err
		}
	}
	p.Close()
	got, err := read(t, 0, config(sarama.MaxVersion))
	return errors.Join(err, expect(got, t, span(0, 20000)...))
}

type member struct {
	mu     *sync.Mutex
	seen   map[string]int
	claims map[int32]bool
}

func (member) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (member) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (h member) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	h.mu.Lock()
	h.claims[c.Partition()] = true
	h.mu.Unlock()
	for {
		select {
		case m, ok := <-c.Messages():
			if !ok {
				return nil
			}
			h.mu.Lock()
			h.seen[string(m.Value)]++
			h.mu.Unlock()
			s.MarkMessage(m, "meta")
		case <-s.Context().Done():
			return nil
		}
	}
}

func group(v sarama.KafkaVersion, strategy sarama.BalanceStrategy, static bool) error {
	t := topic("group-"+strategy.Name()+v.String(), 4)
	id := "g-" + t
	p := must(sarama.NewSyncProducer(brokers, idempotent(sarama.MaxVersion, sarama.CompressionNone)))
	defer p.Close()
	produce := func(from, to int) {
		var batch []*sarama.ProducerMessage
		for i := from; i < to; i++ {
			batch = append(batch, message(t, 0, i))
		}
		if err := p.SendMessages(batch); err != nil {
			panic(err)
		}
	}
	var mu sync.Mutex
	seen := map[string]int{}
	join := func(name string) (member, func()) {
		h, c := member{&mu, seen, map[int32]bool{}}, config(v)
		c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
		c.ClientID = name
		if static {
			c.Consumer.Group.InstanceId = name
		}
		g := must(sarama.NewConsumerGroup(brokers, id, c))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				if err := g.Consume(ctx, []string{t}, h); err != nil {
					time.Sleep(100 * time.Millisecond)
				}
			}
		}()
		return h, func() { cancel(); <-done; g.Close() }
	}
	until := func(what string, ok func() bool) {
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			mu.Lock()
			good := ok()
			mu.Unlock()
			if good {
				return
			}
			if time.Now().After(end) {
				panic(what + " not reached")
			}
		}
	}
	a, stopA := join("a")
	produce(0, 2000)
	until("first member has it all", func() bool { return len(seen) == 2000 && len(a.claims) == 4 })
	b, stopB := join("b")
	until("second member owns two partitions", func() bool { return len(b.claims) == 2 })
	produce(2000, 4000)
	until("both consume", func() bool { return len(seen) == 4000 })
	stopA()
	produce(4000, 6000)
	until("the survivor owns all", func() bool { return len(seen) == 6000 && (static || len(b.claims) == 4) })
	ad := admin()
	defer ad.Close()
	d := must(ad.DescribeConsumerGroups([]string{id}))[0]
	if d.State != "Stable" || (!static && len(d.Members) != 1) {
		return fmt.Errorf("group is %s with %d members", d.State, len(d.Members))
	}
	stopB()
	for value, n := range seen {
		if n != 1 {
			return fmt.Errorf("%.12s seen %d times", value, n)
		}
	}
	client := must(sarama.NewClient(brokers, config(v)))
	defer client.Close()
	offsets := must(ad.ListConsumerGroupOffsets(id, map[string][]int32{t: {0, 1, 2, 3}}))
	for part := range int32(4) {
		block := offsets.GetBlock(t, part)
		if end := must(client.GetOffset(t, part, sarama.OffsetNewest)); block.Offset != end || block.Metadata != "meta" {
			return fmt.Errorf("partition %d: committed %d %q, end %d", part, block.Offset, block.Metadata, end)
		}
	}
	if static {
		return nil
	}
	return ad.DeleteConsumerGroup(id)
}

func transactions() error {
	t, c := topic("txn", 1), idempotent(sarama.MaxVersion, sarama.CompressionLZ4)
	c.Producer.Transaction.ID = "tx-" + t
	p := must(sarama.NewAsyncProducer(brokers, c))
	defer p.Close()
	send := func(from, to int, end func() error) error {
		if err := p.BeginTxn(); err != nil {
			return err
		}
		for i := from; i < to; i++ {
			p.Input() <- message(t, 0, i)
		}
		for range to - from {
			select {
			case <-p.Successes():
			case err := <-p.Errors():
				return err
			}
		}
		return end()
	}
	offsets := func() error {
		return errors.Join(p.AddOffsetsToTxn(map[string][]*sarama.PartitionOffsetMetadata{t: {{Partition: 0, Offset: 42}}}, "tg-"+t), p.CommitTxn())
	}
	if err := errors.Join(send(0, 100, p.CommitTxn), send(100, 200, p.AbortTxn), send(200, 300, offsets)); err != nil {
		return err
	}
	rc := config(sarama.MaxVersion)
	rc.Consumer.IsolationLevel = sarama.ReadCommitted
	committed, err1 := read(t, 0, rc)
	all, err2 := read(t, 0, config(sarama.MaxVersion))
	a := admin()
	defer a.Close()
	block := must(a.ListConsumerGroupOffsets("tg-"+t, map[string][]int32{t: {0}})).GetBlock(t, 0)
	if block == nil || block.Offset != 42 {
		return fmt.Errorf("transactional offset: %+v", block)
	}
	return errors.Join(err1, err2, expect(committed, t, append(span(0, 100), span(200, 300)...)...), expect(all, t, span(0, 300)...))
}

func fencing() error {
	t, c := topic("fence", 1), idempotent(sarama.MaxVersion, sarama.CompressionNone)
	c.Producer.Transaction.ID = "tx-" + t
	old := must(sarama.NewSyncProducer(brokers, c))
	if err := old.BeginTxn(); err != nil {
		return err
	}
	if _, _, err := old.SendMessage(message(t, 0, 0)); err != nil {
		return err
	}
	young := must(sarama.NewSyncProducer(brokers, c))
	defer young.Close()
	if err := old.CommitTxn(); err == nil {
		return errors.New("the fenced producer committed")
	}
	if err := young.BeginTxn(); err != nil {
		return err
	}
	if _, _, err := young.SendMessage(message(t, 0, 1)); err != nil {
		return err
	}
	if err := young.CommitTxn(); err != nil {
		return err
	}
	rc := config(sarama.MaxVersion)
	rc.Consumer.IsolationLevel = sarama.ReadCommitted
	got, err := read(t, 0, rc)
	return errors.Join(err, expect(got, t, 1))
}

func topics() error {
	a, name, ms := admin(), fmt.Sprint("sarama-admin-", run), "86400000"
	defer a.Close()
	if err := a.CreateTopic(name, &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": &ms}}, false); err != nil {
		return err
	}
	if err := a.CreateTopic(name, &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1}, false); !errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return fmt.Errorf("second creation: %v", err)
	}
	if err := a.CreateTopic("bad name!", &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1}, false); !errors.Is(err, sarama.ErrInvalidTopic) {
		return fmt.Errorf("bad name: %v", err)
	}
	if err := a.CreateTopic(name+"x", &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 2}, false); !errors.Is(err, sarama.ErrInvalidReplicationFactor) {
		return fmt.Errorf("two replicas: %v", err)
	}
	value := func(key string) string {
		for _, e := range must(a.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: name, ConfigNames: []string{key}})) {
			if e.Name == key {
				return e.Value
			}
		}
		return "?"
	}
	if v := value("retention.ms"); v != ms {
		return fmt.Errorf("retention.ms %s", v)
	}
	compact := map[string]sarama.IncrementalAlterConfigsEntry{"cleanup.policy": {Operation: sarama.IncrementalAlterConfigsOperationAppend, Value: ptr("compact")}}
	if err := a.IncrementalAlterConfig(sarama.TopicResource, name, compact, false); err != nil {
		return err
	}
	if v := value("cleanup.policy"); v != "delete,compact" {
		return fmt.Errorf("cleanup.policy %s", v)
	}
	if err := a.AlterConfig(sarama.TopicResource, name, map[string]*string{"max.message.bytes": ptr("2000")}, false); err != nil {
		return err
	}
	if m, r := value("max.message.bytes"), value("retention.ms"); m != "2000" || r != "604800000" {
		return fmt.Errorf("after AlterConfig: max.message.bytes %s, retention.ms %s", m, r)
	}
	p := must(sarama.NewSyncProducer(brokers, idempotent(sarama.MaxVersion, sarama.CompressionNone)))
	defer p.Close()
	big := &sarama.ProducerMessage{Topic: name, Value: sarama.ByteEncoder(make([]byte, 3000))}
	if _, _, err := p.SendMessage(big); !errors.Is(err, sarama.ErrMessageSizeTooLarge) {
		return fmt.Errorf("3000 bytes into max.message.bytes=2000: %v", err)
	}
	if err := a.CreatePartitions(name, 5, nil, false); err != nil {
		return err
	}
	if err := a.CreatePartitions(name, 4, nil, false); !errors.Is(err, sarama.ErrInvalidPartitions) {
		return fmt.Errorf("fewer partitions: %v", err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		d := must(a.DescribeTopics([]string{name}))[0]
		if d.Err == sarama.ErrNoError && len(d.Partitions) == 5 {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("described as %v with %d partitions", d.Err, len(d.Partitions))
		}
	}
	if err := a.DeleteTopic(name); err != nil {
		return err
	}
	if err := a.DeleteTopic(name); !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return fmt.Errorf("second deletion: %v", err)
	}
	return nil
}

func records() error {
	t, a := topic("records", 1), admin()
	defer a.Close()
	p := must(sarama.NewSyncProducer(brokers, idempotent(sarama.MaxVersion, sarama.CompressionZSTD)))
	defer p.Close()
	for i := range 100 {
		must2(p.SendMessage(message(t, 0, i)))
	}
	client := must(sarama.NewClient(brokers, config(sarama.MaxVersion)))
	defer client.Close()
	if o := must(client.GetOffset(t, 0, 1_700_000_000_050)); o != 50 {
		return fmt.Errorf("offset for time: %d", o)
	}
	if err := a.DeleteRecords(t, map[int32]int64{0: 60}); err != nil {
		return err
	}
	if o := must(client.GetOffset(t, 0, sarama.OffsetOldest)); o != 60 {
		return fmt.Errorf("oldest after DeleteRecords: %d", o)
	}
	consumer := must(sarama.NewConsumerFromClient(client))
	if _, err := consumer.ConsumePartition(t, 0, 10); !errors.Is(err, sarama.ErrOffsetOutOfRange) {
		return fmt.Errorf("consuming a deleted offset: %v", err)
	}
	got, err := read(t, 0, config(sarama.MaxVersion))
	return errors.Join(err, expect(got, t, span(60, 100)...))
}

func ptr(s string) *string { return &s }

func must2(_ int32, _ int64, err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	codecs := []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD}
	for _, v := range []sarama.KafkaVersion{sarama.V2_1_0_0, sarama.V2_8_2_0, sarama.MaxVersion} {
		for _, codec := range codecs {
			check(fmt.Sprintf("sync/%s/%s", v, codec), func() error { return produceSync(v, codec) })
		}
	}
	for _, codec := range codecs {
		check(fmt.Sprintf("async/%s", codec), func() error { return produceAsync(codec) })
	}
	for _, s := range []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange(), sarama.NewBalanceStrategyRoundRobin(), sarama.NewBalanceStrategySticky()} {
		check("group/"+s.Name(), func() error { return group(sarama.MaxVersion, s, false) })
	}
	check("group/2.1.0", func() error { return group(sarama.V2_1_0_0, sarama.NewBalanceStrategyRange(), false) })
	check("txn/commit-abort-offsets", transactions)
	check("txn/fencing", fencing)
	check("admin/topics", topics)
	check("admin/records", records)
	fmt.Printf("%d passed, %d failed, 0 skipped\n", count["pass"], count["fail"])
}
