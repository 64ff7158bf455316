import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.http.Protocol;

/** KCL 3.x reads a stream through a split and a merge. Usage: Kcl ENDPOINT DYNAMODB_ENDPOINT polling|fanout */
public class Kcl {
    static final int KEYS = 20;
    static final Map<String, List<Integer>> seen = new ConcurrentHashMap<>();   // key -> values in delivery order
    static final List<String> ended = new CopyOnWriteArrayList<>();             // shards in the order they were finished

    static int next = 0;
    static void put(String n, int rounds) throws Exception {
        for (int i = 0; i < rounds; i++, next++)
            for (int key = 0; key < KEYS; key++) {
                String pk = "key" + key; int v = next;
                Sdk.k.putRecord(r -> r.streamName(n).partitionKey(pk).data(SdkBytes.fromUtf8String("" + v))).get();
            }
    }
    static int count() { return seen.values().stream().mapToInt(List::size).sum(); }

    public static void main(String[] a) throws Exception {
        String mode = a[2]; long t = System.nanoTime(); String verdict = "pass", why = "";
        try { drive(a[0], a[1], mode); }
        catch (Throwable e) { String m = e.toString().replaceAll("\\s+", " "); verdict = "fail"; why = "  # " + m.substring(0, Math.min(220, m.length())); }
        System.out.printf("%s kcl.%s.split_and_merge %.1f%s%n", verdict, mode, (System.nanoTime() - t) / 1e9, why);
        Runtime.getRuntime().halt(0);
    }

    static void drive(String endpoint, String dynamo, String mode) throws Exception {
        Sdk.k = Sdk.client(endpoint, Protocol.HTTP1_1);
        String n = Sdk.stream();
        Worker.start(endpoint, dynamo, n, mode, new Worker.Sink() {
            public void record(String shard, String key, String data) { seen.computeIfAbsent(key, x -> new CopyOnWriteArrayList<>()).add(Integer.parseInt(data)); }
            public void ended(String shard) { ended.add(shard); }
        });
        put(n, 5);
        await(150, () -> count() >= 5 * KEYS, "first records");
        Sdk.k.splitShard(r -> r.streamName(n).shardToSplit("shardId-000000000000").newStartingHashKey("170141183460469231731687303715884105728")).get(); Sdk.settle(n);
        put(n, 5);
        await(90, () -> count() >= 10 * KEYS && ended.contains("shardId-000000000000"), "children of the split");
        Sdk.k.mergeShards(r -> r.streamName(n).shardToMerge("shardId-000000000001").adjacentShardToMerge("shardId-000000000002")).get(); Sdk.settle(n);
        put(n, 5);
        await(90, () -> count() >= 15 * KEYS && ended.size() >= 3, "child of the merge");
        List<Integer> all = IntStream.range(0, 15).boxed().toList();
        for (int key = 0; key < KEYS; key++) if (!all.equals(seen.get("key" + key))) throw new AssertionError("key" + key + " got " + seen.get("key" + key));
    }

    static void await(int seconds, Callable<Boolean> ok, String what) throws Exception {
        for (int i = 0; i < seconds * 10; i++) { if (ok.call()) return; Thread.sleep(100); }
        throw new AssertionError("no " + what + " after " + seconds + " s: " + count() + " of " + next * KEYS + " records, ended " + ended);
    }
}
