import java.io.PrintStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.UUID;
import software.amazon.awssdk.auth.credentials.*;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.*;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.lifecycle.events.*;
import software.amazon.kinesis.metrics.MetricsLevel;
import software.amazon.kinesis.processor.*;
import software.amazon.kinesis.retrieval.*;
import software.amazon.kinesis.retrieval.fanout.FanOutConfig;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/**
 * A KCL 3.x application with one worker, from TRIM_HORIZON, tuned to notice a reshard within seconds.
 * As a program, `Worker ENDPOINT LEASES STREAM polling|fanout`, it prints what it is given, in that order: `start SHARD`,
 * `record SHARD KEY DATA`, `end SHARD`, and `lost SHARD` for a lease that went away.
 */
public class Worker {
    interface Sink {
        default void started(String shard) {}
        void record(String shard, String key, String data);
        default void ended(String shard) {}
        default void lost(String shard) {}
        /** All of one delivery was handed over. */
        default void delivered() {}
    }

    static class Reader implements ShardRecordProcessor {
        final Sink sink;
        String shard;
        Reader(Sink sink) { this.sink = sink; }
        public void initialize(InitializationInput i) { shard = i.shardId(); synchronized (sink) { sink.started(shard); } }
        public void processRecords(ProcessRecordsInput in) {
            synchronized (sink) {
                for (KinesisClientRecord r : in.records()) sink.record(shard, r.partitionKey(), StandardCharsets.UTF_8.decode(r.data()).toString());
                sink.delivered();
            }
            try { in.checkpointer().checkpoint(); } catch (Exception e) { throw new RuntimeException(e); }
        }
        public void leaseLost(LeaseLostInput i) { synchronized (sink) { sink.lost(shard); } }
        public void shardEnded(ShardEndedInput i) {
            synchronized (sink) { sink.ended(shard); }
            try { i.checkpointer().checkpoint(); } catch (Exception e) { throw new RuntimeException(e); }
        }
        public void shutdownRequested(ShutdownRequestedInput i) {}
    }

    static void start(String endpoint, String leases, String stream, String mode, Sink sink) {
        var cred = StaticCredentialsProvider.create(AwsBasicCredentials.create("000000000000", "secret"));
        var kinesis = KinesisClientUtil.createKinesisAsyncClient(KinesisAsyncClient.builder()
            .endpointOverride(URI.create(endpoint)).region(Region.US_EAST_1).credentialsProvider(cred));
        var ddb = DynamoDbAsyncClient.builder().endpointOverride(URI.create(leases)).region(Region.US_EAST_1).credentialsProvider(cred).build();
        var cw = CloudWatchAsyncClient.builder().endpointOverride(URI.create(leases)).region(Region.US_EAST_1).credentialsProvider(cred).build();
        var from = InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON);
        String app = "app-" + stream + "-" + UUID.randomUUID().toString().substring(0, 8);
        var c = new ConfigsBuilder(new SingleStreamTracker(stream, from), app, kinesis, ddb, cw, "w1", () -> new Reader(sink));
        RetrievalSpecificConfig how = mode.equals("polling") ? new PollingConfig(stream, kinesis).idleTimeBetweenReadsInMillis(250)
            : new FanOutConfig(kinesis).streamName(stream).applicationName(app);
        var s = new Scheduler(c.checkpointConfig(), c.coordinatorConfig().parentShardPollIntervalMillis(500).shardConsumerDispatchPollIntervalMillis(200).skipShardSyncAtWorkerInitializationIfLeasesExist(false),
            c.leaseManagementConfig().failoverTimeMillis(10000).leaseAssignmentIntervalMillis(1000L).shardSyncIntervalMillis(2000).leasesRecoveryAuditorExecutionFrequencyMillis(5000),
            c.lifecycleConfig(), c.metricsConfig().metricsLevel(MetricsLevel.NONE), c.processorConfig(), c.retrievalConfig().retrievalSpecificConfig(how));
        Thread th = new Thread(s); th.setDaemon(true); th.start();
    }

    public static void main(String[] a) throws Exception {
        PrintStream out = new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), false, StandardCharsets.UTF_8) {
            { super.out = new java.io.BufferedOutputStream(super.out, 1 << 16); }
        };
        start(a[0], a[1], a[2], a[3], new Sink() {
            public void started(String shard) { out.println("start " + shard); out.flush(); }
            public void record(String shard, String key, String data) { out.println("record " + shard + " " + key + " " + data); }
            public void ended(String shard) { out.println("end " + shard); out.flush(); }
            public void lost(String shard) { out.println("lost " + shard); out.flush(); }
            public void delivered() { out.flush(); }
        });
        Thread.currentThread().join();
    }
}
