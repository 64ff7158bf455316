"""boto3 half of kinesis-five: one function per check, each prints `pass|fail NAME seconds [# why]`.
Usage: boto.py ENDPOINT [NAME]... Truth: AWS's service model and developer guide."""
import base64, hashlib, os, signal, sys, time, uuid
from datetime import datetime, timedelta, timezone
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT, ONLY = sys.argv[1], sys.argv[2:]
TOP = 1 << 128
CHECKS, made = [], []

def client(retries=False):
    return boto3.client("kinesis", endpoint_url=ENDPOINT, region_name="us-east-1",
        aws_access_key_id="000000000000", aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 4 if retries else 1}, read_timeout=20, connect_timeout=5))

k = client()

def check(limit=30):
    def mark(f):
        CHECKS.append((f.__name__.replace("__", "."), limit, f))
        return f
    return mark

def settle(name):
    while True:
        d = k.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        if d["StreamStatus"] == "ACTIVE":
            return d
        time.sleep(0.1)

def stream(shards=1):
    name = "five-" + uuid.uuid4().hex[:12]
    k.create_stream(StreamName=name, ShardCount=shards)
    made.append(name)
    settle(name)
    return name

def shards(name, **f):
    return k.list_shards(StreamName=name, **f)["Shards"]

def ids(name, **f):
    return [s["ShardId"][-2:] for s in shards(name, ShardFilter=f)]

def it(name, shard, kind="TRIM_HORIZON", **kw):
    return k.get_shard_iterator(StreamName=name, ShardId=shard, ShardIteratorType=kind, **kw)["ShardIterator"]

def put(name, data, key="k", **kw):
    return k.put_record(StreamName=name, Data=data, PartitionKey=key, **kw)

def get(iterator, **kw):
    """GetRecords, waiting out the 5 calls/s quota."""
    for _ in range(40):
        try:
            return k.get_records(ShardIterator=iterator, **kw)
        except ClientError as e:
            if e.response["Error"]["Code"] != "ProvisionedThroughputExceededException":
                raise
            time.sleep(0.25)
    raise AssertionError("GetRecords throttled for 10 s")

def drain(iterator, tries=12):
    """All records until the shard ends or an answer says MillisBehindLatest 0; the last answer too."""
    out = []
    for _ in range(tries):
        r = get(iterator)
        out += r["Records"]
        iterator = r.get("NextShardIterator")
        if not iterator or (r["MillisBehindLatest"] == 0 and not r["Records"]):
            return out, r
        time.sleep(0.21)
    return out, r

def datas(records):
    return [r["Data"] for r in records]

def refuses(code, f, **kw):
    try:
        f(**kw)
    except ClientError as e:
        got = e.response["Error"]["Code"]
        assert got == code, f"{got} instead of {code}"
        return e.response
    raise AssertionError(f"accepted, expected {code}")

def split(name, shard, at):
    k.split_shard(StreamName=name, ShardToSplit=shard, NewStartingHashKey=str(at))
    settle(name)

# ---- routing, order, iterators
@check()
def route__md5():
    n = stream(3)
    ranges = [(s["ShardId"], int(s["HashKeyRange"]["StartingHashKey"]), int(s["HashKeyRange"]["EndingHashKey"])) for s in shards(n)]
    assert ranges[0][1] == 0 and ranges[-1][2] == TOP - 1 and all(a[2] + 1 == b[1] for a, b in zip(ranges, ranges[1:])), ranges
    for i in range(60):
        key = f"clé-{i}"
        h = int(hashlib.md5(key.encode()).hexdigest(), 16)
        assert next(s for s, a, b in ranges if a <= h <= b) == put(n, b"x", key)["ShardId"], key

@check()
def route__explicit_hash_key():
    n = stream(3)
    for s in shards(n):
        for h in s["HashKeyRange"].values():
            assert put(n, b"x", "k", ExplicitHashKey=h)["ShardId"] == s["ShardId"], h
    refuses("InvalidArgumentException", put, name=n, data=b"x", ExplicitHashKey=str(TOP))

@check()
def route__put_records():
    n = stream(4)
    r = k.put_records(StreamName=n, Records=[{"Data": b"%d" % i, "PartitionKey": "same", "ExplicitHashKey": str(TOP // 4 * i)} for i in range(4)])
    assert r["FailedRecordCount"] == 0 and [x["ShardId"][-1] for x in r["Records"]] == list("0123"), r["Records"]

@check()
def order__sequence_numbers():
    n, last, seqs = stream(), None, []
    for i in range(20):
        last = put(n, b"%d" % i, **({"SequenceNumberForOrdering": last} if last else {}))["SequenceNumber"]
        seqs.append(int(last))
    seqs += [int(r["SequenceNumber"]) for r in k.put_records(StreamName=n, Records=[{"Data": b"b%d" % i, "PartitionKey": "k"} for i in range(20)])["Records"]]
    assert all(a < b for a, b in zip(seqs, seqs[1:])), "not strictly increasing"
    got, _ = drain(it(n, "shardId-000000000000"))
    assert [int(r["SequenceNumber"]) for r in got] == seqs and datas(got)[:2] == [b"0", b"1"], "log order differs"
    refuses("ValidationException", put, name=n, data=b"x", SequenceNumberForOrdering="nonsense")

@check()
def iterator__at_and_after_sequence_number():
    n = stream(); s = [put(n, b"%d" % i) for i in range(5)]; sh = s[0]["ShardId"]
    assert datas(drain(it(n, sh, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=s[2]["SequenceNumber"]))[0]) == [b"2", b"3", b"4"]
    assert datas(drain(it(n, sh, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=s[2]["SequenceNumber"]))[0]) == [b"3", b"4"]
    start = shards(n)[0]["SequenceNumberRange"]["StartingSequenceNumber"]
    assert len(drain(it(n, sh, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=start))[0]) == 5, "from StartingSequenceNumber"
    assert refuses_any(it, n, sh, "AT_SEQUENCE_NUMBER", StartingSequenceNumber="x1") in ("InvalidArgumentException", "ValidationException")

@check()
def iterator__trim_horizon_and_latest():
    n = stream(); put(n, b"old"); sh = "shardId-000000000000"; latest = it(n, sh, "LATEST"); put(n, b"new")
    assert datas(drain(it(n, sh))[0]) == [b"old", b"new"]
    assert datas(drain(latest)[0]) == [b"new"], "LATEST is fixed when the iterator is issued"
    refuses("ResourceNotFoundException", it, name=n, shard="shardId-000000000009")

@check()
def iterator__at_timestamp():
    n = stream(); sh = put(n, b"a")["ShardId"]; time.sleep(1.1)
    mid = datetime.now(timezone.utc); time.sleep(1.1); put(n, b"b"); a, b = drain(it(n, sh))[0]
    assert abs((b["ApproximateArrivalTimestamp"] - datetime.now(timezone.utc)).total_seconds()) < 10
    assert datas(drain(it(n, sh, "AT_TIMESTAMP", Timestamp=mid))[0]) == [b"b"]
    assert datas(drain(it(n, sh, "AT_TIMESTAMP", Timestamp=b["ApproximateArrivalTimestamp"]))[0]) == [b"b"], "exact time of b"
    assert len(drain(it(n, sh, "AT_TIMESTAMP", Timestamp=mid - timedelta(days=400)))[0]) == 2, "before the horizon"
    refuses("InvalidArgumentException", it, name=n, shard=sh, kind="AT_TIMESTAMP", Timestamp=mid + timedelta(hours=1))

@check()
def get_records__limit_and_lag():
    n = stream(); sh = [put(n, b"%d" % i) for i in range(10)][0]["ShardId"]; time.sleep(1)
    r = get(it(n, sh), Limit=3)
    assert datas(r["Records"]) == [b"0", b"1", b"2"] and r["MillisBehindLatest"] > 0, r["MillisBehindLatest"]
    r = get(r["NextShardIterator"])
    assert len(r["Records"]) == 7 and r["MillisBehindLatest"] == 0 and r["NextShardIterator"] and not r.get("ChildShards")

@check()
def limits__record_and_batch_size():
    n = stream(2)
    put(n, b"x" * ((1 << 20) - 1))
    refuses("ValidationException", k.put_records, StreamName=n, Records=[{"Data": b"", "PartitionKey": "k"}] * 501)
    big = refuses_any(put, n, b"x" * ((1 << 20) + 1))
    assert big in ("ValidationException", "InvalidArgumentException"), big
    refuses("ValidationException", put, name=n, data=b"x", key="k" * 257)

def refuses_any(f, *a, **kw):
    try:
        f(*a, **kw)
    except ClientError as e:
        return e.response["Error"]["Code"]
    return "accepted"

# ---- resharding and ShardFilter
@check()
def reshard__split():
    n = stream(); put(n, b"p"); split(n, "shardId-000000000000", TOP // 2)
    p, a, b = shards(n)
    assert p["SequenceNumberRange"].get("EndingSequenceNumber") and not a["SequenceNumberRange"].get("EndingSequenceNumber")
    assert a["ParentShardId"] == b["ParentShardId"] == p["ShardId"] and "AdjacentParentShardId" not in a
    assert (a["HashKeyRange"]["EndingHashKey"], b["HashKeyRange"]["StartingHashKey"]) == (str(TOP // 2 - 1), str(TOP // 2))
    assert int(a["SequenceNumberRange"]["StartingSequenceNumber"]) > int(p["SequenceNumberRange"]["EndingSequenceNumber"])
    child = put(n, b"c", ExplicitHashKey="0")
    assert child["ShardId"] == a["ShardId"] and int(child["SequenceNumber"]) > int(p["SequenceNumberRange"]["EndingSequenceNumber"])
    refuses("InvalidArgumentException", k.split_shard, StreamName=n, ShardToSplit=a["ShardId"], NewStartingHashKey="0")
    assert refuses_any(k.split_shard, StreamName=n, ShardToSplit=p["ShardId"], NewStartingHashKey="99") in ("ResourceInUseException", "InvalidArgumentException"), "splitting a closed shard"

@check()
def reshard__merge():
    n = stream(2); put(n, b"p"); k.merge_shards(StreamName=n, ShardToMerge="shardId-000000000000", AdjacentShardToMerge="shardId-000000000001"); settle(n)
    c = shards(n)[2]
    assert {c["ParentShardId"][-1], c["AdjacentParentShardId"][-1]} == {"0", "1"} and int(c["HashKeyRange"]["EndingHashKey"]) == TOP - 1, c
    for i in "01":
        _, end = drain(it(n, "shardId-00000000000" + i))
        ch = end.get("ChildShards") or []
        assert not end.get("NextShardIterator") and [x["ShardId"] for x in ch] == [c["ShardId"]] and len(ch[0]["ParentShards"]) == 2, f"shard {i}: next={bool(end.get('NextShardIterator'))} children={ch}"

@check()
def reshard__shard_end():
    """KCL refuses an answer where (no NextShardIterator) and (ChildShards) disagree."""
    n = stream(); [put(n, b"%d" % i) for i in range(3)]; live = it(n, "shardId-000000000000", "LATEST")
    split(n, "shardId-000000000000", TOP // 2)
    r = get(it(n, "shardId-000000000000"), Limit=1)
    assert r.get("NextShardIterator") and not r.get("ChildShards") and len(r["Records"]) == 1, "ended before its records did"
    got, end = drain(r["NextShardIterator"])
    assert len(got) == 2 and not end.get("NextShardIterator"), "the parent never ends"
    ch = end.get("ChildShards") or []
    assert len(ch) == 2, "no ChildShards at the end"
    assert all(c["ParentShards"] == ["shardId-000000000000"] and int(c["HashKeyRange"]["EndingHashKey"]) for c in ch), ch
    _, end = drain(live)
    assert not end.get("NextShardIterator") and len(end.get("ChildShards") or []) == 2, "an iterator issued before the split"

@check()
def reshard__update_shard_count():
    n = stream(2); k.update_shard_count(StreamName=n, TargetShardCount=4, ScalingType="UNIFORM_SCALING"); settle(n)
    live = sorted((int(s["HashKeyRange"]["StartingHashKey"]), int(s["HashKeyRange"]["EndingHashKey"])) for s in shards(n) if not s["SequenceNumberRange"].get("EndingSequenceNumber"))
    assert len(live) == 4 and live[0][0] == 0 and live[-1][1] == TOP - 1 and all(a[1] + 1 == b[0] for a, b in zip(live, live[1:])), live
    refuses_code = refuses_any(k.update_shard_count, StreamName=n, TargetShardCount=9, ScalingType="UNIFORM_SCALING")
    assert refuses_code in ("LimitExceededException", "InvalidArgumentException"), refuses_code + " for more than double"

def filtered(**want):
    """00 split at t1 into 01 02, 01 split at t2 into 03 04: open 02 03 04."""
    n = stream(); t0 = settle(n)["StreamCreationTimestamp"]; put(n, b"x"); time.sleep(2.1)
    t1 = datetime.now(timezone.utc); time.sleep(2.1); split(n, "shardId-000000000000", TOP // 2); time.sleep(2.1)
    t2 = datetime.now(timezone.utc); time.sleep(2.1); split(n, "shardId-000000000001", TOP // 4)
    return n, t0, t1, t2

@check(60)
def shard_filter__all_types():
    n, t0, t1, t2 = filtered()
    want = [(dict(Type="AT_LATEST"), "02 03 04"), (dict(Type="AT_TRIM_HORIZON"), "00"), (dict(Type="FROM_TRIM_HORIZON"), "00 01 02 03 04"),
            (dict(Type="AFTER_SHARD_ID", ShardId="shardId-000000000002"), "03 04"),
            (dict(Type="FROM_TIMESTAMP", Timestamp=t1), "00 01 02 03 04"), (dict(Type="FROM_TIMESTAMP", Timestamp=t2), "01 02 03 04"),
            (dict(Type="FROM_TIMESTAMP", Timestamp=t1 - timedelta(days=9)), "00 01 02 03 04"),
            (dict(Type="AT_TIMESTAMP", Timestamp=t1), "00"), (dict(Type="AT_TIMESTAMP", Timestamp=t2), "01 02")]
    wrong = [f"{f['Type']}{'@' + f['ShardId'][-1] if 'ShardId' in f else ''}: {' '.join(got)} not {w}" for f, w in want if (got := ids(n, **f)) != w.split()]
    assert not wrong, "; ".join(wrong)

@check()
def shard_filter__pages():
    n = stream(7); r = k.list_shards(StreamName=n, MaxResults=3, ShardFilter={"Type": "AT_LATEST"}); seen = [s["ShardId"] for s in r["Shards"]]
    while r.get("NextToken"):
        r = k.list_shards(NextToken=r["NextToken"], MaxResults=3); seen += [s["ShardId"] for s in r["Shards"]]
    assert len(seen) == 7 == len(set(seen)), seen
    assert [s["ShardId"][-1] for s in shards(n, ExclusiveStartShardId="shardId-000000000004")] == ["5", "6"]

# ---- enhanced fan-out
def consumer(n):
    arn = k.register_stream_consumer(StreamARN=k.describe_stream_summary(StreamName=n)["StreamDescriptionSummary"]["StreamARN"], ConsumerName="c" + uuid.uuid4().hex[:8])["Consumer"]["ConsumerARN"]
    while k.describe_stream_consumer(ConsumerARN=arn)["ConsumerDescription"]["ConsumerStatus"] != "ACTIVE":
        time.sleep(0.1)
    return arn

def subscribe(arn, kind="TRIM_HORIZON", shard="shardId-000000000000", **kw):
    return iter(k.subscribe_to_shard(ConsumerARN=arn, ShardId=shard, StartingPosition={"Type": kind, **kw})["EventStream"])

def until(events, wanted):
    """Reads events until `wanted` records came; returns records and the last event."""
    out = []
    for e in events:
        e = e["SubscribeToShardEvent"]; out += datas(e["Records"])
        if len(out) >= wanted:
            return out, e
    raise AssertionError(f"stream ended after {out}")

@check()
def fan_out__subscribe():
    """botocore itself refuses a stream whose first message is not `initial-response`."""
    n = stream(); put(n, b"1"); put(n, b"2"); ev = subscribe(consumer(n)); got, e = until(ev, 2)
    assert got == [b"1", b"2"] and e["ContinuationSequenceNumber"] and isinstance(e["MillisBehindLatest"], int), e
    t = time.time(); put(n, b"3"); got, e = until(ev, 1)
    assert got == [b"3"] and time.time() - t < 1.5, f"pushed after {time.time() - t:.1f} s"

@check()
def fan_out__resume_after_continuation():
    n = stream(); put(n, b"1"); arn = consumer(n); _, e = until(subscribe(arn), 1); arn2 = consumer(n); put(n, b"2")
    got, _ = until(subscribe(arn2, "AFTER_SEQUENCE_NUMBER", SequenceNumber=e["ContinuationSequenceNumber"]), 1)
    assert got == [b"2"], got

@check()
def fan_out__idle_keep_alive():
    n = stream(); ev = subscribe(consumer(n), "LATEST"); t = time.time(); e = next(ev)["SubscribeToShardEvent"]; e = next(ev)["SubscribeToShardEvent"]
    assert e["Records"] == [] and e["ContinuationSequenceNumber"] and time.time() - t < 12

@check()
def fan_out__shard_end():
    n = stream(); put(n, b"1"); ev = subscribe(consumer(n)); until(ev, 1); split(n, "shardId-000000000000", TOP // 2); last = None
    for e in ev:
        last = e["SubscribeToShardEvent"]
    assert last and len(last.get("ChildShards") or []) == 2 and not last.get("ContinuationSequenceNumber"), last

@check()
def fan_out__one_subscription_per_five_seconds():
    n = stream(); arn = consumer(n); ev = subscribe(arn); next(ev)
    code = "accepted"
    try:
        next(subscribe(arn))
    except ClientError as e:
        code = e.response["Error"]["Code"]
    assert code == "ResourceInUseException", code

# ---- quotas (per shard: 1 MiB/s, 1000 records/s in; 2 MiB/s, 5 calls/s out), retries off
def offer(n, record, per_call, seconds, every=0.0):
    """Offers put_records for `seconds`; bytes and records accepted, codes and a message of the refused."""
    ok = bad = 0; codes = set(); msg = ""; t = time.time(); end = t + seconds
    while time.time() < end:
        for r in k.put_records(StreamName=n, Records=[{"Data": record, "PartitionKey": "k", "ExplicitHashKey": "0"}] * per_call)["Records"]:
            if "ErrorCode" in r:
                bad += 1; codes.add(r["ErrorCode"]); msg = r["ErrorMessage"]
            else:
                ok += 1
        time.sleep(every)
    return ok, bad, codes, msg, time.time() - t

PTE = "ProvisionedThroughputExceededException"

class TooSlow(Exception):
    """The machine could not offer half as much again as the quota: no verdict."""

def offered(rate):
    if rate < 1.5:
        raise TooSlow(f"only {rate:.1f} x the quota was offered")

@check(40)
def quota__write_bytes():
    """Offers 1.5 MiB a call for 5 s: rate x time is accepted, plus at most one second of burst (tolerance 10 to 15 %)."""
    n = stream(); ok, bad, codes, msg, s = offer(n, b"x" * 51199, 30, 5, 0.02); mib = ok * 51200 / 2**20
    offered((ok + bad) * 51200 / 2**20 / s)
    assert 0.85 * s <= mib <= 1.1 * (s + 1) and codes == {PTE}, f"{mib:.1f} MiB of {(ok + bad) * 51200 / 2**20:.1f} accepted in {s:.1f} s, {codes}"
    assert "Rate exceeded for shard shardId-000000000000 in stream " + n in msg, "message: " + msg

@check(40)
def quota__write_records():
    n = stream(); ok, bad, codes, _, s = offer(n, b"x", 500, 5, 0.1)
    offered((ok + bad) / s / 1000)
    assert bad and 850 * s <= ok <= 1100 * (s + 1) and codes == {PTE}, f"{ok} of {ok + bad} records accepted in {s:.1f} s, {codes}"

@check(40)
def quota__put_record_refused():
    n = stream(); t = time.time(); codes = []
    while time.time() - t < 4:
        codes.append(refuses_any(put, n, b"x" * 700_000))
    good = codes.count("accepted"); s = time.time() - t
    offered(len(codes) * 0.6676 / s)
    assert set(codes) == {"accepted", PTE} and 0.7 * s <= good * 0.6676 <= 1.1 * (s + 1), f"{good} of {len(codes)} accepted in {s:.1f} s {set(codes)}"

@check(40)
def quota__per_shard_not_per_stream():
    """One call with 4.5 MB for one shard and ten bytes for the other."""
    r = k.put_records(StreamName=stream(2), Records=[{"Data": b"x" * (45_000 if i else 1), "PartitionKey": "k", "ExplicitHashKey": "0" if i else str(TOP - 1)} for i in [1] * 100 + [0] * 10])["Records"]
    hot, cool = sum("ErrorCode" in x for x in r[:100]), sum("ErrorCode" in x for x in r[100:])
    assert 60 <= hot < 100 and not cool, f"hot shard refused {hot} of 100, cool shard {cool} of 10"

@check(40)
def quota__read_calls():
    n = stream(); put(n, b"x"); i = it(n, "shardId-000000000000"); t = time.time(); codes = []
    while time.time() - t < 5:
        codes.append(refuses_any(k.get_records, ShardIterator=i, Limit=1)); time.sleep(0.01)
    good = codes.count("accepted")
    offered(len(codes) / 25)
    assert set(codes) == {"accepted", PTE} and 22 <= good <= 33, f"{good} of {len(codes)} calls accepted in 5 s {set(codes)}"

@check(60)
def quota__read_bytes():
    """Reading 8 MiB from the horizon 3 times/s: 2 MiB/s leave the shard, plus one answer of overdraft."""
    n = stream(); written = 0
    while written < 160:
        r = k.put_records(StreamName=n, Records=[{"Data": b"x" * 51199, "PartitionKey": "k"}] * 10); written += 10 - r["FailedRecordCount"]; time.sleep(0.25)
    i = it(n, "shardId-000000000000"); t = time.time(); got = 0; codes = []
    while time.time() - t < 8:
        try:
            got += sum(len(r["Data"]) for r in k.get_records(ShardIterator=i)["Records"])
        except ClientError as e:
            codes.append(e.response["Error"]["Code"])
        time.sleep(0.33)
    s = time.time() - t; mib = got / 2**20
    assert set(codes) == {PTE} and 0.75 * 2 * s <= mib <= 2 * s + 2 + 8, f"{mib:.1f} MiB read in {s:.1f} s, {set(codes)}"

def alarm(*_):
    raise TimeoutError("timed out")

signal.signal(signal.SIGALRM, alarm)
for name, limit, f in CHECKS:
    if ONLY and name not in ONLY:
        continue
    t = time.time(); why = ""; signal.alarm(limit)
    try:
        f(); verdict = "pass"
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt):
            raise
        verdict, why = "skip" if isinstance(e, TooSlow) else "fail", "  # " + " ".join(f"{type(e).__name__}: {e}".split())[:230]
    signal.alarm(0); k = client()
    while made:
        try: k.delete_stream(StreamName=made.pop(), EnforceConsumerDeletion=True)
        except Exception: pass
    print(f"{verdict} boto3.{name} {time.time() - t:.1f}{why}", flush=True)
