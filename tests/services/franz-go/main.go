// franz-go ADDRESS TOPIC: works with the broker at ADDRESS as a Go service would, on a topic of its own, and prints "ok".
// What the broker does differently than Apache Kafka ends it with a sentence and exit code 1.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const records, partitions = 600, 3

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: franz-go ADDRESS TOPIC")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := work(ctx, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

func work(ctx context.Context, address, topic string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.DefaultProduceTopic(topic),
		kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	steps := []struct {
		what string
		do   func() error
	}{
		{"create a compacted topic", func() error { return create(ctx, admin, topic) }},
		{"produce", func() error { return produce(ctx, client) }},
		{"find the topic by id", func() error { return byID(ctx, admin, topic) }},
		{"ask for the folder's bytes", func() error { return logDirs(ctx, admin, topic) }},
		{"ask for offsets", func() error { return offsets(ctx, admin, topic) }},
		{"consume in a group", func() error { return consume(ctx, address, topic) }},
		{"ask for the group's lag", func() error { return lag(ctx, admin, topic) }},
		{"delete records, the group and the topic", func() error { return remove(ctx, admin, topic) }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("cannot %s: %w", step.what, err)
		}
	}
	return nil
}

func create(ctx context.Context, admin *kadm.Client, topic string) error {
	policy := "compact,delete"
	_, err := admin.CreateTopic(ctx, partitions, 1, map[string]*string{"cleanup.policy": &policy}, topic)
	if err != nil {
		return err
	}
	// Apache Kafka applies what it has answered a little later.
	for range 50 {
		if described(ctx, admin, topic) == policy {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("cleanup.policy is not described as it was set")
}

func described(ctx context.Context, admin *kadm.Client, topic string) string {
	configs, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return err.Error()
	}
	config, err := configs.On(topic, nil)
	if err != nil {
		return err.Error()
	}
	for _, setting := range config.Configs {
		if setting.Key == "cleanup.policy" {
			return setting.MaybeValue()
		}
	}
	return ""
}

func produce(ctx context.Context, client *kgo.Client) error {
	batch := make([]*kgo.Record, records)
	for nth := range batch {
		number := strconv.Itoa(nth)
		headers := []kgo.RecordHeader{{Key: "number", Value: []byte(number)}}
		batch[nth] = &kgo.Record{Partition: int32(nth % partitions), Key: []byte(number), Value: []byte("value " + number), Headers: headers}
	}
	return client.ProduceSync(ctx, batch...).FirstErr()
}

func byID(ctx context.Context, admin *kadm.Client, topic string) error {
	topics, err := admin.ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	if detail := topics[topic]; detail.Err != nil || len(detail.Partitions) != partitions || detail.ID == (kadm.TopicID{}) {
		return fmt.Errorf("%d partitions, id %v: %w", len(detail.Partitions), detail.ID, detail.Err)
	}
	return nil
}

func logDirs(ctx context.Context, admin *kadm.Client, topic string) error {
	dirs, err := admin.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return err
	}
	bytes := int64(0)
	dirs.Each(func(dir kadm.DescribedLogDir) {
		dir.Topics.Each(func(partition kadm.DescribedLogDirPartition) {
			if partition.Topic == topic {
				bytes += partition.Size
			}
		})
	})
	if bytes == 0 {
		return errors.New("the topic has no bytes")
	}
	return nil
}

func offsets(ctx context.Context, admin *kadm.Client, topic string) error {
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return err
	}
	byTime, err := admin.ListOffsetsAfterMilli(ctx, 0, topic)
	if err != nil {
		return err
	}
	for partition := int32(0); partition < partitions; partition++ {
		end, _ := ends.Lookup(topic, partition)
		first, _ := byTime.Lookup(topic, partition)
		if end.Err != nil || end.Offset != records/partitions || first.Err != nil || first.Offset != 0 {
			return fmt.Errorf("partition %d ends at %d and begins at %d", partition, end.Offset, first.Offset)
		}
	}
	return nil
}

func consume(ctx context.Context, address, topic string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumeTopics(topic), kgo.ConsumerGroup(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	next := map[int32]int64{}
	for read := 0; read < records; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("after %d records: %w", read, err)
		}
		var wrong error
		fetches.EachRecord(func(record *kgo.Record) {
			expected := strconv.FormatInt(record.Offset*partitions+int64(record.Partition), 10)
			if record.Offset != next[record.Partition] || string(record.Key) != expected || string(record.Headers[0].Value) != expected {
				wrong = fmt.Errorf("partition %d has %q at %d", record.Partition, record.Key, record.Offset)
			}
			next[record.Partition]++
			read++
		})
		if wrong != nil {
			return wrong
		}
	}
	return client.CommitUncommittedOffsets(ctx)
}

func lag(ctx context.Context, admin *kadm.Client, topic string) error {
	lags, err := admin.Lag(ctx, topic)
	if err != nil {
		return err
	}
	if group := lags[topic]; group.Error() != nil || group.Lag.Total() != 0 || len(group.Lag[topic]) != partitions {
		return fmt.Errorf("%d partitions, lag %d: %w", len(group.Lag[topic]), group.Lag.Total(), group.Error())
	}
	return nil
}

func remove(ctx context.Context, admin *kadm.Client, topic string) error {
	before := kadm.Offsets{}
	before.AddOffset(topic, 0, 10, -1)
	if _, err := admin.DeleteRecords(ctx, before); err != nil {
		return err
	}
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return err
	}
	if start, _ := starts.Lookup(topic, 0); start.Offset != 10 {
		return fmt.Errorf("partition 0 begins at %d", start.Offset)
	}
	if _, err := admin.DeleteGroup(ctx, topic); err != nil {
		return err
	}
	_, err = admin.DeleteTopic(ctx, topic)
	return err
}
