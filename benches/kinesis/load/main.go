// A cheap load for a Kinesis endpoint (JSON over HTTP/1.1, well-formed but unsigned requests that are built once, raw
// sockets): boto3 tops out near 20,000 records/s. Standard library only. The endpoint's shard limits must be off.
//
//	go run . -endpoint 127.0.0.1:4567 [-pid SERVER] [-size 1024] [-batch 500] [-conns 4] [-records 300000] [-fill 0] [-get]
//
// Prints one line of JSON: records that were taken, how many a second, records of calls that failed, and with -pid the
// server's CPU seconds per million records and its memory. -fill puts so many records before that are not measured;
// -get reads everything back afterwards (a second line).
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var endpoint = flag.String("endpoint", "127.0.0.1:4567", "host:port")

func request(op string, body string) []byte {
	return []byte(fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: Kinesis_20131202.%s\r\n"+
		"X-Amz-Date: %s\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKID/%s/us-east-1/kinesis/aws4_request, SignedHeaders=host;x-amz-date;x-amz-target, Signature=%064d\r\nContent-Length: %d\r\n\r\n%s",
		*endpoint, op, time.Now().UTC().Format("20060102T150405Z"), time.Now().UTC().Format("20060102"), 0, len(body), body))
}

type conn struct {
	c net.Conn
	r *bufio.Reader
}

func dial() *conn {
	c, err := net.Dial("tcp", *endpoint)
	if err != nil {
		panic(err)
	}
	return &conn{c, bufio.NewReaderSize(c, 1<<16)}
}

func (c *conn) do(req []byte) (int, []byte) {
	if _, err := c.c.Write(req); err != nil {
		panic(err)
	}
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		panic(err)
	}
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, b
}

func (c *conn) call(op, body string, out any) {
	code, b := c.do(request(op, body))
	if code != 200 {
		panic(fmt.Sprint(op, " ", code, " ", string(b)))
	}
	if out != nil {
		json.Unmarshal(b, out)
	}
}

// cpu returns the seconds of CPU a process has used and its resident MiB.
func cpu(pid int) (float64, float64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
	var u, s, rss float64
	fmt.Sscan(f[11], &u)
	fmt.Sscan(f[12], &s)
	fmt.Sscan(f[21], &rss)
	return (u + s) / 100, rss * float64(os.Getpagesize()) / (1 << 20)
}

func report(line map[string]any) {
	b, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(b))
}

// bodies returns eight requests of batch records each; a batch of one is a PutRecord.
func bodies(stream string, data []byte, batch int) [][]byte {
	blob := base64.StdEncoding.EncodeToString(data)
	all := make([][]byte, 8)
	for i := range all {
		var b strings.Builder
		op := "PutRecords"
		if batch == 1 {
			op = "PutRecord"
			fmt.Fprintf(&b, `{"StreamName":"%s","Data":"%s","PartitionKey":"k%d"}`, stream, blob, rand.Int63())
		} else {
			fmt.Fprintf(&b, `{"StreamName":"%s","Records":[`, stream)
			for j := 0; j < batch; j++ {
				if j > 0 {
					b.WriteByte(',')
				}
				fmt.Fprintf(&b, `{"Data":"%s","PartitionKey":"k%d"}`, blob, rand.Int63())
			}
			b.WriteString("]}")
		}
		all[i] = request(op, b.String())
	}
	return all
}

// put sends records over conns connections for at most so many seconds; returns how many it sent, and how many of them
// were in calls that failed as a whole or in part.
func put(requests [][]byte, batch, conns int, records int64, seconds float64) (int64, int64) {
	var left, sent, failed atomic.Int64
	left.Store(records)
	var wg sync.WaitGroup
	begin := time.Now()
	for i := 0; i < conns; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			k := dial()
			for n := i; left.Add(-int64(batch)) >= 0 && time.Since(begin).Seconds() < seconds; n++ {
				code, b := k.do(requests[n%len(requests)])
				sent.Add(int64(batch))
				if code != 200 || (batch > 1 && !bytes.Contains(b, []byte(`"FailedRecordCount":0`))) {
					failed.Add(int64(batch))
				}
			}
		}()
	}
	wg.Wait()
	return sent.Load(), failed.Load()
}

func main() {
	pid := flag.Int("pid", 0, "server process")
	size := flag.Int("size", 1024, "bytes of data in a record")
	batch := flag.Int("batch", 500, "records in a PutRecords (1: PutRecord)")
	conns := flag.Int("conns", 4, "connections")
	records := flag.Int64("records", 300000, "records to send")
	shards := flag.Int("shards", 4, "shards of the stream")
	limit := flag.Float64("seconds", 60, "stop after")
	fill := flag.Int64("fill", 0, "records to put before, 500 a call, that are not measured")
	get := flag.Bool("get", false, "read everything back")
	flag.Parse()
	c := dial()
	name := fmt.Sprintf("bench-%d", time.Now().UnixNano())
	c.call("CreateStream", fmt.Sprintf(`{"StreamName":"%s","ShardCount":%d}`, name, *shards), nil)
	for {
		var d struct{ StreamDescriptionSummary struct{ StreamStatus string } }
		c.call("DescribeStreamSummary", fmt.Sprintf(`{"StreamName":"%s"}`, name), &d)
		if d.StreamDescriptionSummary.StreamStatus == "ACTIVE" {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	data := make([]byte, *size)
	rand.Read(data)
	if *fill > 0 {
		put(bodies(name, data, 500), 500, *conns, *fill, 600)
	}
	requests := bodies(name, data, *batch)
	c0, r0 := cpu(*pid)
	t := time.Now()
	n, failed := put(requests, *batch, *conns, *records, *limit)
	s := time.Since(t).Seconds()
	c1, r1 := cpu(*pid)
	report(map[string]any{"what": "put", "size": *size, "batch": *batch, "conns": *conns, "shards": *shards, "fill": *fill,
		"records": n, "failed": failed, "seconds": s, "records_per_s": float64(n) / s,
		"cpu_s_per_million": (c1 - c0) / float64(n) * 1e6, "rss_before_mb": r0, "rss_mb": r1})
	if !*get {
		return
	}
	c0, _ = cpu(*pid)
	t = time.Now()
	got, calls := 0, 0
	for i := 0; i < *shards; i++ {
		var it struct{ ShardIterator string }
		c.call("GetShardIterator", fmt.Sprintf(`{"StreamName":"%s","ShardId":"shardId-%012d","ShardIteratorType":"TRIM_HORIZON"}`, name, i), &it)
		for next := it.ShardIterator; next != ""; calls++ {
			_, b := c.do(request("GetRecords", fmt.Sprintf(`{"ShardIterator":"%s"}`, next)))
			k := bytes.Count(b, []byte(`"PartitionKey"`))
			if got += k; k == 0 {
				break
			}
			j := bytes.LastIndex(b, []byte(`"NextShardIterator":"`))
			if j < 0 {
				j = bytes.Index(b, []byte(`"NextShardIterator":"`))
			}
			e := b[j+21:]
			next = string(e[:bytes.IndexByte(e, '"')])
		}
	}
	s = time.Since(t).Seconds()
	c1, _ = cpu(*pid)
	report(map[string]any{"what": "get", "records": got, "calls": calls, "seconds": s, "records_per_s": float64(got) / s,
		"cpu_s_per_million": (c1 - c0) / float64(got) * 1e6})
}
