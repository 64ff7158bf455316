// A writer topology (numbers -> KafkaBolt) and a reader topology (KafkaSpout -> count) on one LocalCluster.
// "Resumes" allows 100 records twice (at least once); a reader that lost its offsets would see 20,000 again.
// Arguments: BOOTSTRAP LABEL [RESTART_COMMAND]. Prints `pass|fail LABEL/NAME seconds`. Compiles against Storm 2.6 to 2.8.
import java.io.File;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.util.*;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.storm.*;
import org.apache.storm.generated.*;
import org.apache.storm.kafka.bolt.KafkaBolt;
import org.apache.storm.kafka.bolt.mapper.FieldNameBasedTupleToKafkaMapper;
import org.apache.storm.kafka.bolt.selector.DefaultTopicSelector;
import org.apache.storm.kafka.spout.*;
import org.apache.storm.kafka.spout.KafkaSpoutConfig.*;
import org.apache.storm.shade.org.apache.zookeeper.server.*;
import org.apache.storm.spout.SpoutOutputCollector;
import org.apache.storm.task.*;
import org.apache.storm.topology.*;
import org.apache.storm.topology.base.*;
import org.apache.storm.tuple.*;

public class StormCheck {
    static final AtomicInteger limit = new AtomicInteger(), acked = new AtomicInteger(), delivered = new AtomicInteger(), prepares = new AtomicInteger(), cleanups = new AtomicInteger();
    static final Set<String> seen = ConcurrentHashMap.newKeySet();
    static volatile String topologyId;
    static String bootstrap, label, topic, group;
    static long started;
    static LocalCluster cluster;

    public static class Numbers extends BaseRichSpout {
        SpoutOutputCollector out; int next; final Deque<Integer> again = new ArrayDeque<>();
        public void open(Map conf, TopologyContext context, SpoutOutputCollector collector) { out = collector; }
        public void nextTuple() {
            Integer n = again.poll();
            if (n == null && next < limit.get()) n = next++;
            if (n != null) out.emit(new Values("k" + n, "" + n), n);
        }
        public void ack(Object id) { acked.incrementAndGet(); }
        public void fail(Object id) { again.add((Integer) id); }
        public void declareOutputFields(OutputFieldsDeclarer d) { d.declare(new Fields("key", "message")); }
    }

    public static class Count extends BaseRichBolt {
        OutputCollector out;
        public void prepare(Map conf, TopologyContext context, OutputCollector collector) { out = collector; topologyId = context.getStormId(); prepares.incrementAndGet(); }
        public void execute(Tuple t) { delivered.incrementAndGet(); seen.add(t.getStringByField("value")); out.ack(t); }
        public void cleanup() { cleanups.incrementAndGet(); }
        public void declareOutputFields(OutputFieldsDeclarer d) { }
    }

    static void submit(String name, TopologyBuilder b) throws Exception {
        Config c = new Config();
        c.setNumWorkers(1); c.setNumAckers(1); c.setMessageTimeoutSecs(20); c.setMaxSpoutPending(2000);
        cluster.submitTopology(name, c, b.createTopology());
    }

    static void submitReader(String name, FirstPollOffsetStrategy first) throws Exception {
        TopologyBuilder b = new TopologyBuilder();
        b.setSpout("spout", new KafkaSpout<>(KafkaSpoutConfig.builder(bootstrap, topic).setProp(ConsumerConfig.GROUP_ID_CONFIG, group)
            .setProp("default.api.timeout.ms", "300000")    // a worker whose commit fails for 60 s dies: a slow restart is not what we test
            .setOffsetCommitPeriodMs(500).setFirstPollOffsetStrategy(first).build()), 2).setNumTasks(2);
        b.setBolt("count", new Count()).shuffleGrouping("spout");
        submit(name, b);
    }

    static KafkaConsumer<String, String> consumer(String g) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap); p.put("group.id", g); p.put("enable.auto.commit", "false");
        p.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer"); p.put("value.deserializer", p.get("key.deserializer"));
        return new KafkaConsumer<>(p);
    }

    static List<TopicPartition> partitions(KafkaConsumer<?, ?> c) {
        List<TopicPartition> l = new ArrayList<>();
        for (int i = 0; l.isEmpty() && i < 100; i++) {    // a new topic first shows as null or empty
            Collection<org.apache.kafka.common.PartitionInfo> found = c.partitionsFor(topic);
            if (found != null) found.forEach(f -> l.add(new TopicPartition(topic, f.partition())));
            if (l.isEmpty()) try { Thread.sleep(100); } catch (InterruptedException e) { throw new RuntimeException(e); }
        }
        return l;
    }

    // The two methods that changed shape between kafka-clients 0.10 and 4.x.
    static Object call(KafkaConsumer<?, ?> c, String name, Class<?> type, Object arg) throws ReflectiveOperationException { return KafkaConsumer.class.getMethod(name, type).invoke(c, arg); }
    static OffsetAndMetadata committed(KafkaConsumer<?, ?> c, TopicPartition tp) {
        try {
            try { return (OffsetAndMetadata) call(c, "committed", TopicPartition.class, tp); }
            catch (NoSuchMethodException e) { return (OffsetAndMetadata) ((Map<?, ?>) call(c, "committed", Set.class, Collections.singleton(tp))).get(tp); }
        } catch (ReflectiveOperationException e) { throw new RuntimeException(e); }
    }
    @SuppressWarnings("unchecked")
    static ConsumerRecords<String, String> poll(KafkaConsumer<String, String> c) {
        try {
            try { return (ConsumerRecords<String, String>) call(c, "poll", java.time.Duration.class, java.time.Duration.ofMillis(500)); }
            catch (NoSuchMethodException e) { return (ConsumerRecords<String, String>) call(c, "poll", long.class, 500L); }
        } catch (ReflectiveOperationException e) { throw new RuntimeException(e); }
    }

    static long ends(KafkaConsumer<?, ?> c) { return c.endOffsets(partitions(c)).values().stream().mapToLong(Long::longValue).sum(); }
    static boolean allCommitted() {
        try (KafkaConsumer<String, String> c = consumer(group)) {
            long sum = 0;
            for (TopicPartition tp : partitions(c)) { OffsetAndMetadata o = committed(c, tp); sum += o == null ? 0 : o.offset(); }
            return sum == ends(c);
        }
    }

    static boolean until(int secs, BooleanSupplier ok) throws Exception {
        for (long end = System.currentTimeMillis() + secs * 1000L; System.currentTimeMillis() < end; Thread.sleep(200)) if (ok.getAsBoolean()) return true;
        return ok.getAsBoolean();
    }

    static void line(String name, boolean ok) {
        System.out.printf("%s %s/%s %.1f%n", ok ? "pass" : "fail", label, name, (System.nanoTime() - started) / 1e9);
        if (!ok) System.err.println(name + ": acked " + acked + " distinct " + seen.size() + " delivered " + delivered + " of " + limit);
        started = System.nanoTime();
    }

    static boolean roundTrip() {
        try (KafkaConsumer<String, String> c = consumer(group)) {
            for (TopicPartition tp : partitions(c)) {
                String m = committed(c, tp).metadata();
                System.err.println(tp + " " + m);
                if (!m.matches("\\{\"topologyId\":\"" + topologyId + "\",\"taskId\":\\d+,\"threadName\":\"[^\"]+\"\\}")) return false;
            }
        }
        char[] most = new char[4096]; Arrays.fill(most, 'm');
        for (String m : new String[] {"", "{\"q\":\"\\\"\"}", "\u00e9\u6f22\ud83d\ude42\u0000\n\t", new String(most)})
            try (KafkaConsumer<String, String> c = consumer(group + "-m")) {
                TopicPartition tp = partitions(c).get(0);
                c.assign(Collections.singleton(tp));
                c.commitSync(Collections.singletonMap(tp, new OffsetAndMetadata(7, m)));
                try (KafkaConsumer<String, String> d = consumer(group + "-m")) { if (!committed(d, tp).equals(new OffsetAndMetadata(7, m))) return false; }
            }
        return true;
    }

    static Set<String> readAll() {
        Set<String> all = new HashSet<>();
        try (KafkaConsumer<String, String> c = consumer(group + "-plain")) {
            c.assign(partitions(c)); c.seekToBeginning(c.assignment());
            long end = ends(c), n = 0, stop = System.currentTimeMillis() + 30000;
            while (n < end && System.currentTimeMillis() < stop) for (ConsumerRecord<String, String> r : poll(c)) { n++; all.add(r.value()); }
        }
        return all;
    }

    public static void main(String[] a) throws Exception {
        bootstrap = a[0]; label = a[1]; topic = group = label + "-" + System.currentTimeMillis();
        File dir = Files.createTempDirectory("storm-zk").toFile();
        NIOServerCnxnFactory zk = new NIOServerCnxnFactory();    // our own, because LocalCluster's binds every address
        zk.configure(new InetSocketAddress("127.0.0.1", 0), 100);
        zk.startup(new ZooKeeperServer(dir, dir, 2000));
        cluster = new LocalCluster("127.0.0.1", (long) zk.getLocalPort());
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap); p.put("acks", "all"); p.put("retries", "1000"); p.put("linger.ms", "5");
        p.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer"); p.put("value.serializer", p.get("key.serializer"));
        TopologyBuilder w = new TopologyBuilder();
        w.setSpout("numbers", new Numbers());
        w.setBolt("kafka", new KafkaBolt<String, String>().withProducerProperties(p).withTopicSelector(new DefaultTopicSelector(topic))
            .withTupleToKafkaMapper(new FieldNameBasedTupleToKafkaMapper<String, String>())).shuffleGrouping("numbers");
        try (KafkaConsumer<String, String> c = consumer(group)) { ends(c); }    // makes the topic and waits for its leaders
        started = System.nanoTime();
        limit.set(20000);
        submit("writer", w);
        line("bolt-writes-all", until(120, () -> acked.get() >= 20000) && readAll().size() == 20000);
        submitReader("reader", FirstPollOffsetStrategy.EARLIEST);
        line("spout-reads-all", until(90, () -> seen.size() == 20000));
        line("metadata-roundtrip", until(30, StormCheck::allCommitted) && roundTrip());

        int before = delivered.get(), had = prepares.get();
        RebalanceOptions r = new RebalanceOptions();            // moves executors: the worker restarts under the same topology id
        r.set_wait_secs(0); r.put_to_num_executors("spout", 1);
        cluster.rebalance("reader", r);
        boolean again = until(60, () -> prepares.get() > had);
        limit.addAndGet(1000);
        line("worker-restart-resumes", until(60, () -> seen.size() == 21000) && again && delivered.get() - before <= 1100 && until(30, StormCheck::allCommitted));

        int gone = cleanups.get(); KillOptions k = new KillOptions(); k.set_wait_secs(0);
        cluster.killTopologyWithOpts("reader", k);
        until(30, () -> cleanups.get() > gone);
        int count = delivered.get();
        limit.addAndGet(1000);
        boolean written = until(60, () -> acked.get() >= 22000);
        submitReader("reader2", FirstPollOffsetStrategy.UNCOMMITTED_EARLIEST);
        boolean read = until(60, () -> seen.size() == 22000);
        Thread.sleep(2000);
        line("resume-no-reread", written && read && delivered.get() - count <= 1100);

        if (a.length > 2 && !a[2].isEmpty()) {
            limit.addAndGet(5000);
            int rc = new ProcessBuilder("bash", "-c", a[2]).redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD).start().waitFor();
            limit.addAndGet(1000);
            line("survives-broker-restart", rc == 0 && until(180, () -> seen.size() == 28000) && until(60, StormCheck::allCommitted));
        } else System.out.println("skip " + label + "/survives-broker-restart");
        System.exit(0);
    }
}
