"""The outside suites: what each needs, how its lines are grouped, and how a run of it is judged.

A suite is a runner beside this file that prints `pass|fail|skip LINE ...`. NAME.must holds the lines that must pass and only grows;
NAME.not holds every other line with its reason. A line on neither list that fails is a failure, so that the lists stay complete.
A failed line is run once more alone, on a fresh broker with nothing else running, before it counts. What speaks of lost, doubled or
reordered data, of a dead broker or of grown memory is never forgiven.
"""
import os
import queue
import re
import shlex
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from broker import Broker, BrokerFailed, end_group, spawn

HERE = Path(__file__).resolve().parent
BASE = {"node.id": 1, "num.partitions": 4, "group.initial.rebalance.delay.ms": 0, "group.min.session.timeout.ms": 1000}
STAYED_UP = "broker-stayed-up"
# librdkafka's longest numbers first, so that its brokers end together; 0089, 0102 and 0118 expect their two members in one
# generation (0089's second member is to get nothing before the first has been put out, 0118's commits in every revocation and
# wants to be refused, which only its last one is)
LONGEST = "0089 0033 0026 0137 0045 0091 0018 0030 0122 0093 0050 0061 0084 0114 0052 0069 0020 0132 0123 0125 0051 0118 0015".split()
JOIN_DELAY_3000 = {"0089", "0102", "0118"}


# what installs together -> how its lines begin
CLIENTS = {"confluent": ("confluent-kafka-python/", "kafka-python/", "aiokafka/"), "confluent-js": ("confluent-kafka-javascript/",),
           "rskafka": ("rskafka/",), "kafkajs": ("kafkajs/", "platformatic-kafka/"), "quixstreams": ("quixstreams/",)}


def top(line):
    return line.split("/")[0]


def part(line):
    return line.split(".")[0]


@dataclass
class Suite:
    name: str
    runner: str = ""
    props: dict = field(default_factory=dict)
    port: int = 0                  # 0: any free one
    cost: float = 1.0              # cores it keeps busy, per broker
    brokers: int = 1               # how many run side by side
    limit_s: int = 600             # of one call of the runner
    install_cost: float = 0.2
    parts: dict = field(default_factory=dict)  # of the installation, each on its own: name -> how its lines begin
    env: dict = field(default_factory=dict)
    group: object = None           # line -> what the runner runs as one; None: all lines in one call
    whole: bool = False            # the runner cannot run single lines
    flags: tuple = ()              # put before the address
    starts_broker: bool = False    # the runner does; it gets the command behind the address
    restarts: bool = False
    doors: tuple = ("kafka",)      # the runner gets the addresses of these, in this order; the Kinesis door's as a URL
    repeat: int = 1
    only: tuple = ()               # beginnings of the lines asked for; empty: all of them
    unforgiven: object = None      # (line, note) -> True when a second run must not heal it

    def __post_init__(self):
        self.runner = self.runner or self.name

    def must(self):
        lines = (HERE / f"{self.name}.must").read_text().split()
        return [l for l in lines if l.startswith(self.only)] if self.only else lines

    def excused(self):
        rows = (HERE / f"{self.name}.not").read_text().splitlines()
        return dict(r.split("\t", 1) for r in rows)

    def units(self):
        """The calls of the runner: lists of lines, in the order they should start."""
        if self.group is None:
            return [self.must()] * self.repeat
        units = {}
        for line in self.must():
            units.setdefault(self.group(line), []).append(line)
        order = {n: i for i, n in enumerate(LONGEST)}
        return sorted(units.values(), key=lambda u: order.get(self.group(u[0]), len(order))) * self.repeat

    def properties(self, unit):
        extra = {"group.initial.rebalance.delay.ms": 3000} if "librdkafka" in self.name and unit[0][:4] in JOIN_DELAY_3000 else {}
        return BASE | self.props | extra


UNSAFE = {"restarts-ready", "read-back", "nothing-lost", "nothing-twice", "order-kept", "offsets-true", "commits-never-back", "group-skips-nothing"}


def table(full):
    """Every suite in the order of its start. `full`: at full length."""
    kills, inputs, cuts = (50, 20000, 10) if full else (5, 3000, 3)
    rows = [
        Suite("librdkafka", cost=0.25, brokers=3, install_cost=1, group=lambda l: l[:4]),
        Suite("clients", cost=0.5, brokers=2, install_cost=1, limit_s=1200, group=top, parts=CLIENTS),
        Suite("franz-go", cost=0.7, install_cost=1, group=None, repeat=3 if full else 1),
        Suite("java-tools"),
        Suite("storm", whole=True, restarts=True),
        Suite("kcat", cost=0.4),
        Suite("durability", cost=1, limit_s=120 + 30 * kills, whole=True, starts_broker=True,
              flags=("--kills", str(kills), "--max-up", "3", "--within", os.environ.get("WEIR_WITHIN_MS", "300"), "--no-transactions", "--pauses"),
              unforgiven=lambda line, note: line in UNSAFE),
        Suite("power", cost=1, limit_s=60 + 40 * cuts, whole=True, starts_broker=True, doors=("kafka", "kinesis"), flags=("--cuts", str(cuts)),
              props={"kinesis.quota.profile": "off"}, unforgiven=lambda line, note: True),
        Suite("soak", cost=1, limit_s=1400, install_cost=1, whole=True, starts_broker=True, doors=("kafka", "kinesis"), flags=("--minutes", "20"),
              props={"kinesis.quota.profile": "off", "log.retention.check.interval.ms": 1000}, unforgiven=lambda line, note: line == "stays-up"),
        Suite("hostile", cost=1, limit_s=300 + inputs // 10, starts_broker=True, whole=True, flags=("--inputs", str(inputs)),
              env={"RSS_MB": os.environ.get("RSS_MB", "16")}, unforgiven=lambda line, note: not re.search(r"deaths 0\b", note)),
        Suite("sarama-smoke", cost=0.6, install_cost=1),
        Suite("librdkafka-idempotent", "librdkafka", cost=0.25, brokers=2, install_cost=1, group=lambda l: l[:4], env={"IDEMPOTENT": "1"}),
        Suite("surge", cost=0.4, limit_s=1000 if full else 600, install_cost=0.5, whole=True, doors=("kafka", "kinesis", "admin"),
              flags=("--seconds", "90") if full else (), props={"kinesis.quota.profile": "off"},
              unforgiven=lambda line, note: re.search("nothing|order|parents|not-stored", line) is not None),
        Suite("kinesis-five", cost=0.5, install_cost=1, group=part, doors=("kinesis",)),
        Suite("quota", cost=1.5, doors=("kafka", "kinesis"),
              unforgiven=lambda line, note: line.endswith("none-lost") and " lost, " in note),
        Suite("ferrokinesis-conformance", cost=0.6, install_cost=1, limit_s=900, group=part, doors=("kinesis",)),
        Suite("moto-kinesis", cost=0.5, limit_s=1000, doors=("kinesis",),
              props={"kinesis.account.id": 123456789012, "kinesis.quota.profile": "off"}),
        Suite("rust-rdkafka", cost=0.6, limit_s=1500, install_cost=1, port=9092, props={"node.id": 0, "num.partitions": 3}),
        Suite("node-rdkafka", cost=0.5, limit_s=1500, install_cost=1, props={"num.partitions": 1}),
    ]
    return {s.name: s for s in rows}


DEFAULT = ["kcat", "librdkafka", "franz-go", "clients", "java-tools", "storm", "durability", "power", "hostile", "surge", "kinesis-five"]


class Run:
    """One run of one suite: its brokers, its log target/suites/NAME.log, and the verdict of every line."""
    def __init__(self, suite, template, logs, give_up_at):
        self.suite, self.template, self.give_up_at = suite, template, give_up_at
        self.folder, self.log = logs / suite.name, logs / f"{suite.name}.log"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.log.write_text("")
        self.seen, self.wrong, self.flaky, self.begin, self.took_s = {}, [], [], time.time(), 0.0
        self.guard, self.began = threading.Lock(), False

    def play(self):
        """Runs every unit, on as many brokers side by side as the suite asks for."""
        self.begin, self.began, waiting = time.time(), True, queue.Queue()
        for unit in self.suite.units():
            waiting.put(unit)
        lanes = [threading.Thread(target=self.lane, args=(waiting,)) for _ in range(self.suite.brokers)]
        for t in lanes:
            t.start()
        for t in lanes:
            t.join()
        self.took_s = time.time() - self.begin
        return True

    def lane(self, waiting):
        """One broker serves unit after unit; a unit with other properties, or the next after a death, gets a fresh one."""
        broker = props = None
        try:
            while time.time() < self.give_up_at:
                try:
                    unit = waiting.get_nowait()
                except queue.Empty:
                    break
                if broker is None or props != self.suite.properties(unit) or broker.child and broker.child.poll() is not None:
                    self.close(broker)
                    broker, props = None, self.suite.properties(unit)
                    broker = self.open(props)
                self.note(self.call(broker, unit))
        except BrokerFailed as e:
            self.wrong.append(str(e))
        finally:
            self.close(broker)

    def open(self, props):
        broker = Broker(self.template, props, self.folder, self.suite.port, self.suite.doors)
        try:
            return broker if self.suite.starts_broker else broker.start()
        except BrokerFailed:
            broker.discard()
            raise

    def close(self, broker):
        if broker is not None:
            wrong = broker.stop()
            broker.discard()
            if wrong:
                self.wrong.append(wrong)

    def call(self, broker, unit):
        """Runs the runner once; {line: (verdict, note)} of what it printed."""
        s, command = self.suite, [str(HERE / self.suite.runner)]
        if s.starts_broker:
            command += [*s.flags, *(f"--class={l}" for l in unit if s.name == "hostile" and len(unit) == 1), broker.address, *broker.command]
        elif s.restarts:
            asked = Path(broker.home + ".restart")
            broker.restart_on_request(asked)
            command += [broker.address, f"touch {shlex.quote(str(asked))}; while [ -e {shlex.quote(str(asked))} ]; do sleep 0.05; done"]
        else:
            addresses = {"kafka": broker.address, "kinesis": f"http://{broker.kinesis}", "admin": broker.admin}
            command += [*s.flags, *(addresses[door] for door in s.doors), *([] if s.whole else unit)]
        out = self.folder / f"call-{broker.port}-{time.time_ns()}.out"
        env = os.environ | s.env | {"WEIR_LOGS": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        with open(out, "wb") as to:
            child = spawn(command, stdout=to, stderr=subprocess.STDOUT, env=env)
            try:
                child.wait(max(1, min(s.limit_s, self.give_up_at - time.time())))
            except subprocess.TimeoutExpired:
                to.write(f"\n# ended after {s.limit_s} s\n".encode())
            finally:
                end_group(child.pid)
                child.wait()
        text = out.read_text(errors="replace")
        with self.guard, open(self.log, "a") as log:
            log.write(f"# {' '.join(command[:1] + unit[:3])}{' ...' if len(unit) > 3 else ''}, exit {child.returncode}\n{text}\n")
        out.unlink()
        rows = re.findall(r"^(pass|fail|skip) (\S+)(.*)$", text, re.M)
        return {line: (verdict, note.strip()) for verdict, line, note in rows}

    def note(self, rows):
        with self.guard:
            for line, row in rows.items():
                if line not in self.seen or self.seen[line][0] == "pass":  # of repeated runs the worst counts
                    self.seen[line] = row

    def failures(self):
        """{line: why} of what must pass and did not, and of failed lines on neither list."""
        must, excused = self.suite.must(), self.suite.excused()
        missing = ("missing", "no verdict: the runner ended before it" if self.began else "never ran")
        bad = {l: self.seen.get(l, missing) for l in must if self.seen.get(l, missing)[0] != "pass"}
        bad |= {l: r for l, r in self.seen.items() if r[0] == "fail" and l not in must and l not in excused}
        return {l: f"{v} {n}" for l, (v, n) in bad.items()}

    def again(self, most=12):
        """Runs failed lines once more, each group alone on a fresh broker; a line that passes now is flaky, not failed."""
        groups = {}
        for line, why in self.failures().items():
            if not (self.suite.unforgiven and self.suite.unforgiven(line, why)):
                key = "" if self.suite.whole and self.suite.name != "hostile" else top(line) if self.suite.name == "franz-go" else self.suite.group(line) if "librdkafka" in self.suite.name else line
                groups.setdefault(key, []).append(line)
        if len(groups) > most:
            return
        for unit in groups.values():
            if time.time() > self.give_up_at:
                return
            broker = None
            try:
                broker = self.open(self.suite.properties(unit))
                rows = self.call(broker, unit)
            except BrokerFailed as e:
                self.wrong.append(str(e))
                return
            finally:
                self.close(broker)
            for line in unit:
                if rows.get(line, ("", ""))[0] == "pass":
                    self.flaky.append(f"{line}: {self.seen.get(line, ('missing', ''))[1]}")
                    self.seen[line] = rows[line]

    def verdict(self):
        """(passed, {failed line: why}, skipped, lines that pass though they are excused)."""
        failed, excused, must = self.failures(), self.suite.excused(), self.suite.must()
        if self.wrong:
            failed[STAYED_UP] = "; ".join(self.wrong)[:1000]
        passed = sum(l not in failed for l in must) + (not self.wrong and self.began)
        better = [l for l, r in self.seen.items() if r[0] == "pass" and l not in must]
        return passed, failed, 0 if self.suite.only else len(excused), better
