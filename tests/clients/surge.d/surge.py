"""The surge itself (see ../surge). Prints `pass|fail LINE note`, and at the end the totals.

Every record is WRITER:KEY:N, N counting up per writer and key, so that loss, doubling and order are decided from what was read. What a
reader may count on, and what is checked:
- put by Kinesis (`put-*`): order per key over all shards, for KCL; a key stands once in a PutRecords call and one call is in flight.
- put by Kafka onto partition 0 (`stay`): a producer that stays on its partition. Order per key, for everybody; the shards of one
  partition are parent and child, so KCL keeps it as well.
- put by Kafka onto the partition of the key's hash (`hash`): moves when partitions are added, on every Kafka. Order per key and
  partition for the group, per key and shard for KCL.
Every judgement is made again on the same data with one record dropped, doubled and moved: a judge that finds nothing then fails its line.
"""
import argparse, collections, http.client, json, logging, os, random, re, subprocess, sys, threading, time, uuid
from pathlib import Path

import boto3
from botocore.config import Config
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition as TP, OFFSET_BEGINNING
from confluent_kafka.admin import AdminClient, NewTopic

arg = argparse.ArgumentParser()
arg.add_argument("--seconds", type=float, default=16)
for name in ("--leases", "--logs", "--classes", "bootstrap", "endpoint", "admin"):
    arg.add_argument(name)
arg = arg.parse_args()
MODES = ["polling", "fanout"] if arg.seconds >= 60 else ["polling"]
STREAM, FORCED = (f"{what}-{uuid.uuid4().hex[:8]}" for what in ("surge", "forced"))
KEYS, ROUND_S, QUIET_S = 20, 0.1, 60
base = {"bootstrap.servers": arg.bootstrap, "log_level": 4, "topic.metadata.refresh.interval.ms": 1000}
logging.getLogger("kafka").setLevel(logging.CRITICAL)
kinesis = lambda: boto3.client("kinesis", endpoint_url=arg.endpoint, region_name="us-east-1", aws_access_key_id="000000000000",
                               aws_secret_access_key="secret", config=Config(retries={"total_max_attempts": 1}, read_timeout=30))
errors, verdicts, begin = [], [], time.time()  # errors: (seconds, who, what)


def error(who, what):
    errors.append((time.time(), who, " ".join(str(what).split())[:300]))


def line(name, bad, note=""):
    """A line passes when nothing is bad."""
    verdicts.append(not bad)
    words = " ".join(("; ".join(map(str, bad)) if bad else note).split())
    print(f"{'fail' if bad else 'pass'} {name} {time.time() - begin:.1f} # {words[:600]}", flush=True)


class KafkaWriter(threading.Thread):
    """A Kafka producer: `hash` by the key's hash as Java does, `stay` onto one partition. `acked`: what was acknowledged."""
    def __init__(self, topic, name, partition=None, round_s=ROUND_S, **config):
        super().__init__(daemon=True)
        self.topic, self.name, self.partition, self.round_s = topic, name, partition, round_s
        self.sent, self.acked, self.failed, self.done, self.next = [], [], [], threading.Event(), 0
        self.p = Producer(base | {"client.id": name, "acks": "all", "partitioner": "murmur2_random", "linger.ms": 5, "error_cb": lambda e: error(name, e)}
                          | {k.replace("_", "."): v for k, v in config.items()})

    def ack(self, record, e):
        (self.failed if e else self.acked).append((record, e) if e else record)
        if e and self.topic == STREAM:
            error(self.name, e)

    def run(self):
        where = {} if self.partition is None else {"partition": self.partition}
        while not self.done.is_set():
            for key in range(KEYS):
                record = (self.name, f"k{key}", self.next)
                self.sent.append(record)
                try:
                    self.p.produce(self.topic, "%s:%s:%d" % record, f"{self.name}-k{key}", on_delivery=lambda e, m, r=record: self.ack(r, e), **where)
                except KafkaException as e:  # a fatal error of an idempotent producer
                    self.ack(record, e.args[0])
            self.next += 1
            until = time.time() + self.round_s
            while time.time() < until:
                self.p.poll(max(0, until - time.time()))
        left = self.p.flush(30)
        if left:
            error(self.name, f"{left} records without an answer")


class KinesisWriter(threading.Thread):
    """PutRecords, each key once in a call, one call in flight; what was refused goes again before the next call."""
    def __init__(self, name):
        super().__init__(daemon=True)
        self.name, self.k, self.done = name, kinesis(), threading.Event()
        self.sent, self.acked, self.next = [], [], 0

    def run(self):
        while not self.done.is_set():
            at, records = time.time(), [(self.name, f"k{key}", self.next) for key in range(KEYS)]
            self.sent += records
            while records:
                try:
                    answer = self.k.put_records(StreamName=STREAM, Records=[{"PartitionKey": f"{r[0]}-{r[1]}", "Data": b"%s:%s:%d" % (r[0].encode(), r[1].encode(), r[2])} for r in records])["Records"]
                except Exception as e:  # whether it was stored is unknown: the run has failed, and the key goes on without it
                    error(self.name, repr(e))
                    break
                self.acked += [r for r, a in zip(records, answer) if "ErrorCode" not in a]
                for a in answer:
                    if "ErrorCode" in a:
                        error(self.name, f"{a['ErrorCode']}: {a.get('ErrorMessage')}")
                records = [r for r, a in zip(records, answer) if "ErrorCode" in a]
                if records:
                    time.sleep(0.05)
            self.next += 1
            time.sleep(max(0, at + ROUND_S - time.time()))


class Member(threading.Thread):
    """A member of the Kafka group. `seen`: (record, partition), as it came. Commits what it saw before it gives partitions away."""
    seen, guard = [], threading.Lock()

    def __init__(self, name):
        super().__init__(daemon=True)
        self.name, self.done, self.places = name, threading.Event(), {}
        self.c = Consumer(base | {"group.id": STREAM, "client.id": name, "auto.offset.reset": "earliest", "enable.auto.commit": False,
                                  "error_cb": lambda e: error(name, e)})

    def commit(self, *_):
        places, self.places = self.places, {}
        if places:
            try:
                self.c.commit(offsets=[TP(STREAM, p, o) for p, o in places.items()], asynchronous=False)
            except KafkaException as e:
                error(self.name, f"commit: {e}")

    def run(self):
        self.c.subscribe([STREAM], on_revoke=self.commit, on_lost=lambda c, parts: error(self.name, f"lost {parts}"))
        committed = time.time()
        while not self.done.is_set():
            m = self.c.poll(0.1)
            if m is not None and m.error():
                error(self.name, m.error())
            elif m is not None:
                with self.guard:
                    self.seen.append((parse(m.value().decode()), m.partition()))
                self.places[m.partition()] = m.offset() + 1
            if time.time() > committed + 1:
                self.commit()
                committed = time.time()
        self.c.close()


class Kcl(threading.Thread):
    """A KCL application in its own JVM. `seen`: (record, shard), as it came; `events`: (start|end|lost, shard)."""
    def __init__(self, mode):
        super().__init__(daemon=True)
        self.name, self.seen, self.events, self.log = f"kcl-{mode}", [], [], Path(arg.logs, f"kcl-{mode}.err")
        java = ["java", "-Xmx384m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", arg.classes, "Worker"]
        self.child = subprocess.Popen([*java, arg.endpoint, arg.leases, STREAM, mode], stdout=subprocess.PIPE, stderr=self.log.open("w"), stdin=subprocess.DEVNULL, text=True)

    def run(self):
        for text in self.child.stdout:
            what, shard, *rest = text.split()
            if what == "record":
                self.seen.append((parse(rest[1]), shard))
            else:
                self.events.append((what, shard))

    def complaints(self):
        """What it logged at WARN and above and is not benign; the line behind names the exception."""
        lines = self.log.read_text(errors="replace").splitlines()
        said = (" ".join(pair) for pair in zip(lines, [*lines[1:], ""]) if re.search(r"\] (WARN|ERROR) ", pair[0]))
        return [text for text in said if not any(re.search(b, text) for b in BENIGN)]


# Lines of KCL that speak of itself, not of what the stream answered. Whatever they cost would show in what was read.
BENIGN = [
    # no CloudWatch agent on this machine to measure the worker with
    "Did not find an operating range metadata provider",
    # its ListShards cache (30 s) does not know the new shard yet; matters for records that KPL aggregated
    "Cannot get the shard for this ProcessTask, so duplicate KPL user records", r"Cannot find the shard given the shardId shardId-\d+. Cache misses",
    # of the two parents of a merge one is read to its end before KCL has a lease for the other: it tries again, and one time in some gives
    # the lease up first
    "ShutdownTask - Shard .*: Caught exception: .*BlockedOnParentShardException: .* has partial parent information in lease table",
    # KCL ends a subscription of its own; what was under way then is dropped and read again from the checkpoint
    "exceptionCaught.*SdkCancellationException: Subscriber cancelled before all events were published",
    "complete called on a cancelled subscription. Ignoring completion", "Rejected an attempt to request.*, because subscribers don't match",
]


def parse(text):
    writer, key, n = text.split(":")
    return writer, key, int(n)


def judge(sent, acked, seen, lane):
    """(lost, read more often than sent, out of order). `lane`: (record, place) -> that in which records have an order."""
    count = collections.Counter(r for r, _ in seen)
    known, last, swapped = set(sent), {}, []
    for r, place in seen:
        at = lane(r, place)
        if r[2] < last.get(at, -1):
            swapped.append(r)
        last[at] = r[2]
    return [r for r in acked if r not in count], [r for r, n in count.items() if n > (r in known)], swapped


def group_lane(r, partition):
    return r[:2] if r[0] == "stay" else (r[:2], partition)


def kcl_lane(r, shard):
    return (r[:2], shard) if r[0] == "hash" else r[:2]


def judged(name, sent, acked, readers, lane):
    """Three lines about what each of the readers {who: seen} saw, each proved able to fail."""
    bad = collections.defaultdict(list)
    for who, seen in readers.items():
        found = dict(zip(("lost-nothing", "doubled-nothing", "order-kept"), judge(sent, acked, seen, lane)))
        for what, records in found.items():
            bad[what] += [f"{who}: {len(records)}: {records[:5]}"] * bool(records)
        lanes, one = collections.defaultdict(list), len(seen) // 2
        for i, (r, place) in enumerate(seen):
            lanes[lane(r, place)].append(i)
        i, j = next((l[:2] for l in lanes.values() if len(l) > 1), (0, 0))
        moved = list(seen)
        if i != j:
            moved[i], moved[j] = moved[j], moved[i]
        spoilt = (seen[:one] + seen[one + 1:], seen + seen[one:one + 1], moved)
        for at, (what, data) in enumerate(zip(found, spoilt)):
            bad[what] += [f"{who}: the judge does not see what it must"] * (len(judge(sent, acked, data, lane)[at]) <= len(found[what]))
    note = f"{len(acked)} acknowledged, read {' '.join(str(len(seen)) for seen in readers.values())}"
    for what in found:
        line(f"{name}-{what}", bad[what], note)


def admin(method, topic, body=None):
    """(status, answer) of the admin door."""
    c = http.client.HTTPConnection(arg.admin, timeout=30)
    c.request(method, f"/v1/topics/{topic}/shards", body and json.dumps(body), {"content-type": "application/json"} if body else {})
    r = c.getresponse()
    return r.status, r.read().decode()


k, kafka = kinesis(), AdminClient(base)


def shards(stream):
    out, token = [], None
    while not out or token:
        page = k.list_shards(**({"NextToken": token} if token else {"StreamName": stream}))
        out, token = out + page["Shards"], page.get("NextToken")
    return out


def open_ranges(stream):
    spans = [s["HashKeyRange"] for s in shards(stream) if "EndingSequenceNumber" not in s["SequenceNumberRange"]]
    return sorted((int(s["StartingHashKey"]), int(s["EndingHashKey"])) for s in spans)


def scale(steps, seconds):
    """UpdateShardCount step by step, with the load going on for its share of the seconds after each."""
    for count in steps:
        try:
            k.update_shard_count(StreamName=STREAM, TargetShardCount=count, ScalingType="UNIFORM_SCALING")
            while k.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
                time.sleep(0.05)
        except Exception as e:
            error("UpdateShardCount", repr(e))
        time.sleep(seconds / len(steps))


def wait(seconds, done):
    until = time.time() + seconds
    while time.time() < until and not done():
        time.sleep(0.1)
    return done()


def wait_while_moving(moved, done, still_s=60, most_s=600):
    """Until it is done, or nothing moves: how fast readers are is not the question here, and others may use the machine."""
    begin = at = time.time()
    last = moved()
    while not done() and time.time() - at < still_s and time.time() - begin < most_s:
        time.sleep(0.2)
        if (now := moved()) != last:
            last, at = now, time.time()


def equal(count):
    return [((1 << 128) * i // count, (1 << 128) * (i + 1) // count - 1) for i in range(count)]


def told(topic, partition):
    """What Kafka's protocol says to a producer of that partition: kafka-python hands on the broker's own words."""
    from kafka import KafkaProducer
    p = KafkaProducer(bootstrap_servers=arg.bootstrap, retries=0, acks="all", enable_idempotence=False)
    try:
        p.send(topic, b"nobody:k0:0", partition=partition).get(20)
    except Exception as e:
        return f"{type(e).__name__}: {e}"
    finally:
        p.close(5)
    return "nothing: the record was taken"


def read_back(topic, partitions):
    """Everything in a topic: [(record, partition)]."""
    c, seen = Consumer(base | {"group.id": topic, "enable.auto.commit": False, "enable.partition.eof": True}), []
    c.assign([TP(topic, p, OFFSET_BEGINNING) for p in range(partitions)])
    at_end, until = set(), time.time() + 30
    while time.time() < until and len(at_end) < partitions:
        m = c.poll(0.2)
        if m is not None and not m.error():
            seen.append((parse(m.value().decode()), m.partition()))
        elif m is not None and m.error().code() == KafkaError._PARTITION_EOF:
            at_end.add(m.partition())
    c.close()
    return seen if len(at_end) == partitions else []


def read_shards(stream):
    """The same through GetRecords, shard by shard, parents before children: [(record, shard)]."""
    seen = []
    for shard in (s["ShardId"] for s in shards(stream)):
        at, behind = k.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"], 1
        while at and behind:
            page = k.get_records(ShardIterator=at)
            seen += [(parse(r["Data"].decode()), shard) for r in page["Records"]]
            at, behind = page.get("NextShardIterator"), page["Records"] or page["MillisBehindLatest"]
    return seen


def refusal_lacks(refused, text, writers):
    """What is missing in the refusal of a merge."""
    return [f"not refused: {text}"] * (not refused) + [f"does not say {what}: {text}" for what, found in (
        ("who writes", any(w.name in text for w in writers)), ("how to force it", "--force" in text), ("where", "partition" in text)) if not found]


def over_kinesis(call, **what):
    """(whether it was refused as in use, what was said)."""
    try:
        return False, call(**what)
    except k.exceptions.ClientError as e:
        return e.response["Error"]["Code"] == "ResourceInUseException", str(e)


def merge_under_producers():
    """On a topic of its own: a merge is refused while producers write, and forced it costs nothing that was acknowledged."""
    kafka.create_topics([NewTopic(FORCED, 2, 1)])[FORCED].result(30)
    busy = {"round_s": 0.01}  # something is in flight when the merge comes
    gone = [KafkaWriter(FORCED, "plain", 1, **busy), KafkaWriter(FORCED, "idempotent", 1, enable_idempotence=True, **busy)]
    stays = KafkaWriter(FORCED, "stay", 0, **busy)
    writers = [*gone, stays]
    for w in writers:
        w.start()
    wait(10, lambda: all(len(w.acked) > 50 * KEYS for w in writers))
    status, text = admin("POST", FORCED, {"merge": {"shard": 0, "adjacent": 1}})
    bad = refusal_lacks(status == 409, text, gone)
    bad += refusal_lacks(*over_kinesis(k.merge_shards, StreamName=FORCED, ShardToMerge="shardId-000000000000", AdjacentShardToMerge="shardId-000000000001"), gone)
    bad += [f"{w.name}: {e}" for w in writers for _, e in w.failed[:1]]
    line("merge-refused", bad, text)
    status, text = admin("POST", FORCED, {"merge": {"shard": 0, "adjacent": 1, "force": True}})
    wait(10, lambda: all(len(w.failed) > 50 * KEYS for w in gone))
    for w in writers:
        w.done.set()
    for w in writers:
        w.join()
    words = told(FORCED, 1)
    child = open_ranges(FORCED) == equal(1) and shards(FORCED)[-1]["ShardId"]
    bad = [f"the admin door answered {status}: {text}"] * (status != 200) + [f"no one child: {shards(FORCED)}"] * (not child)
    for w in gone:
        codes = collections.Counter(e.name() for _, e in w.failed)
        bad += [f"{w.name} got {dict(codes)}"] * (set(codes) != {"POLICY_VIOLATION"})
    bad += [f"stay: {e}" for _, e in stays.failed[:1]]
    bad += [f"the child is not named: {words}"] * (not child or not re.search(rf"\b{child}\b|\bshard {int(child[-12:])}\b", words) or "Policy" not in words)
    line("merge-forced-told", bad, words)
    seen, failed = read_back(FORCED, 2), {r for w in writers for r, _ in w.failed}
    both = {"kafka": seen, "kinesis": read_shards(FORCED)}  # each writer stays on its partition, whose shards are parent and child
    judged("merge-forced", [r for w in writers for r in w.sent], [r for w in writers for r in w.acked], both, lambda r, _: r[:2])
    line("merge-forced-refused-is-not-stored", [f"stored though refused: {r}" for r, _ in seen if r in failed][:5], f"{len(failed)} refused")


def phase(name, since, until, count):
    """The lines about shards and errors of one phase; what KCL logged all along counts in the last."""
    found, partitions = open_ranges(STREAM), len(kafka.list_topics(STREAM, 10).topics[STREAM].partitions)
    line(f"{name}-shards", [f"{len(found)} open shards: {found}"] * (found != equal(count)) + [f"{partitions} partitions"] * (partitions != 16), f"{count} open, 16 partitions")
    bad = [(w, what) for t, w, what in errors if since <= t < until]
    line(f"{name}-no-errors", [f"{len(bad)} errors: {bad[:4]}"] * bool(bad))


def main():
    k.create_stream(StreamName=STREAM, ShardCount=1)
    k.get_waiter("stream_exists").wait(StreamName=STREAM, WaiterConfig={"Delay": 1})
    apps.extend(Kcl(mode) for mode in MODES)
    group = [Member("member-1"), Member("member-2")]
    puts = [KinesisWriter("put-1"), KinesisWriter("put-2")]
    produces = [KafkaWriter(STREAM, "hash", enable_idempotence=True), KafkaWriter(STREAM, "stay", 0)]
    for t in [*group, *apps, *puts, *produces]:
        t.start()
    if not wait(60, lambda: all(a.seen for a in apps) and Member.seen):
        error("start", "not everybody reads, and the surge begins without them")
    note(f"everybody reads after {time.time() - begin:.1f} s")
    scale([2, 4, 8, 16], arg.seconds)
    refused, text = over_kinesis(k.update_shard_count, StreamName=STREAM, TargetShardCount=8, ScalingType="UNIFORM_SCALING")
    line("down-refused-under-a-producer", refusal_lacks(refused, text, produces), text)
    for p in produces:
        p.done.set()
    for p in produces:
        p.join()
    stopped, quiet = [w.next for w in puts], time.time()
    phase("up", 0, quiet, 16)
    merge_under_producers()
    time.sleep(max(0, quiet + QUIET_S + 1 - time.time()))
    scale([8, 4], arg.seconds / 2)
    for p in puts:
        p.done.set()
    for p in puts:
        p.join()
    sent, acked = ([r for w in [*puts, *produces] for r in getattr(w, what)] for what in ("sent", "acked"))
    want = len(set(acked))
    loaded = time.time()
    moved = lambda: [(len(a.seen), len(a.events)) for a in apps] + [len(Member.seen)]
    wait_while_moving(moved, lambda: all(len(seen) >= want for seen in (Member.seen, *(a.seen for a in apps))))
    wait_while_moving(moved, lambda: all(sum(what == "end" for what, _ in a.events) >= 1 + 2 + 4 + 8 + 16 + 8 for a in apps))
    note(f"everything was read {time.time() - loaded:.1f} s after the last record")
    time.sleep(2)  # for what comes twice
    for m in group:
        m.done.set()
    for m in group:
        m.join()
    for app in apps:
        for complaint in app.complaints():
            error(app.name, complaint)
        if app.child.poll() is not None:
            error(app.name, f"left with {app.child.returncode}")
        app.child.kill()
    phase("down", quiet, time.time() + 1, 4)
    first = {w.name: n for w, n in zip(puts, stopped)}
    # what was written while it grew; then all that the Kinesis producers wrote, so that order is seen over the whole
    for name, chosen in (("up", lambda r: r[0] not in first or r[2] < first[r[0]]), ("down", lambda r: r[0] in first)):
        part = [[r for r in rs if chosen(r)] for rs in (sent, acked)]
        judged(f"{name}-group", *part, {"group": [s for s in Member.seen if chosen(s[0])]}, group_lane)
        judged(f"{name}-kcl", *part, {app.name: [s for s in app.seen if chosen(s[0])] for app in apps}, kcl_lane)
    parents = {s["ShardId"]: {s[p] for p in ("ParentShardId", "AdjacentParentShardId") if p in s} for s in shards(STREAM)}
    closed, bad = set().union(*parents.values()), [f"{len(parents)} shards, not 43"] * (len(parents) != 43)
    for app in apps:
        ended = set()
        for what, shard in app.events:
            if what == "start" and parents[shard] - ended:
                bad.append(f"{app.name}: {shard} began before the end of {parents[shard] - ended}")
            if what == "end":
                ended.add(shard)
        bad += [f"{app.name} never ended {sorted(closed - ended)}"] * (ended != closed)
    lost = sum(what == "lost" for app in apps for what, _ in app.events)  # KCL may give a lease up and take it again
    line("kcl-parents-first", bad, f"{len(closed)} shards to their end, {len(parents)} in all, {lost} leases given up on the way")


def note(text):
    print(f"# {text}", flush=True)


apps = []
try:
    main()
finally:
    for app in apps:
        app.child.kill()
print(f"{sum(verdicts)} passed, {len(verdicts) - sum(verdicts)} failed, 0 skipped, {time.time() - begin:.0f} s", flush=True)
sys.stdout.flush()
os._exit(0)
