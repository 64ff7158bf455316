"""A raw Kafka client for suites that must know exactly what was sent, answered and stored. Wants the package crc32c.

One connection, requests in order, no retries, no state: what a test of promises needs and a real client hides.
Versions are the oldest that say what is needed: Produce 7, Fetch 4, ListOffsets 1, Metadata 1, OffsetCommit 2, OffsetFetch 1,
CreateTopics 2, DeleteTopics 1, DeleteRecords 0, InitProducerId 0.
"""
import socket
import struct
import time

from crc32c import crc32c

pack = struct.pack


def text(s):
    return pack(">h", -1) if s is None else pack(">h", len(s.encode())) + s.encode()


def blob(b):
    return pack(">i", len(b)) + b


def zigzag(n):
    n, out = (n << 1) ^ (n >> 63), bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def unzigzag(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at


def batch(values, producer=-1, epoch=-1, sequence=-1):
    """One uncompressed batch of values without keys."""
    now, records = int(time.time() * 1000), bytearray()
    for i, value in enumerate(values):
        record = b"\0\0" + zigzag(i) + b"\1" + zigzag(len(value)) + value + b"\0"
        records += zigzag(len(record)) + record
    covered = pack(">hiqqqhii", 0, len(values) - 1, now, now, producer, epoch, sequence, len(values)) + records
    return pack(">qiibI", 0, len(covered) + 9, -1, 2, crc32c(covered)) + covered


def records(data):
    """(offset, value) of the whole uncompressed batches in `data`, and the offset after them. A wrong CRC raises."""
    at, found, after = 0, [], None
    while at + 61 <= len(data):
        base, length = struct.unpack_from(">qi", data, at)
        if at + 12 + length > len(data):
            break
        covered = data[at + 21:at + 12 + length]
        if crc32c(covered) != struct.unpack_from(">I", data, at + 17)[0]:
            raise ValueError(f"batch at offset {base} has a wrong checksum")
        last, count = struct.unpack_from(">i", covered, 2)[0], struct.unpack_from(">i", covered, 36)[0]
        place = 40
        for _ in range(count):
            size, place = unzigzag(covered, place)
            end, place = place + size, place + 1
            _, place = unzigzag(covered, place)
            delta, place = unzigzag(covered, place)
            key, place = unzigzag(covered, place)
            size, place = unzigzag(covered, place + max(key, 0))
            found.append((base + delta, bytes(covered[place:place + size])))
            place = end
        at, after = at + 12 + length, base + last + 1
    return found, after


class Answer:
    """Reads an answer from its front."""
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        found = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return found if len(found) > 1 else found[0]

    def text(self):
        size = self.take("h")
        self.at += max(size, 0)
        return None if size < 0 else self.data[self.at - size:self.at].decode()

    def blob(self):
        size = self.take("i")
        self.at += max(size, 0)
        return b"" if size < 0 else self.data[self.at - size:self.at]


class Refused(Exception):
    """The broker answered with an error code."""
    def __init__(self, code, what):
        self.code = code
        super().__init__(f"{what}: error {code}")


class Kafka:
    """One connection."""
    def __init__(self, address, timeout_s=15):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, api, version, body):
        self.sent += 1
        frame = pack(">hhi", api, version, self.sent) + text("raw") + body
        self.socket.sendall(blob(frame))

    def exactly(self, count):
        data = bytearray()
        while len(data) < count:
            some = self.socket.recv(min(count - len(data), 1 << 20))
            if not some:
                raise EOFError("the broker closed the connection")
            data += some
        return bytes(data)

    def receive(self):
        return Answer(self.exactly(struct.unpack(">i", self.exactly(4))[0])[4:])

    def ask(self, api, version, body):
        self.send(api, version, body)
        return self.receive()

    def send_produce(self, topic, partition, data, acks=-1):
        self.send(0, 7, pack(">hhii", -1, acks, 10000, 1) + text(topic) + pack(">ii", 1, partition) + blob(data))

    def receive_produce(self):
        """(error code, base offset)"""
        answer = self.receive()
        answer.take("i"), answer.text(), answer.take("i")
        _, code, offset = answer.take("ihq")
        return code, offset

    def produce(self, topic, partition, data, acks=-1):
        self.send_produce(topic, partition, data, acks)
        return self.receive_produce()

    def fetch(self, topic, partition, offset, most=4 << 20):
        """(error code, high watermark, bytes)"""
        answer = self.ask(1, 4, pack(">iiiibi", -1, 0, 1, most, 0, 1) + text(topic) + pack(">iiqi", 1, partition, offset, most))
        answer.take("ii"), answer.text(), answer.take("i")
        _, code, mark, _, aborted = answer.take("ihqqi")
        for _ in range(max(aborted, 0)):
            answer.take("qq")
        return code, mark, answer.blob()

    def read(self, topic, partition, offset=0):
        """Every (offset, value) from `offset` to the high watermark; any error raises."""
        rows = []
        while True:
            code, mark, data = self.fetch(topic, partition, offset)
            if code:
                raise Refused(code, f"fetch {topic}-{partition} at {offset}")
            if offset >= mark:
                return rows
            found, after = records(data)
            if after is None:
                raise Refused(0, f"fetch {topic}-{partition} at {offset} of {mark}: nothing")
            rows += [row for row in found if row[0] >= offset]
            offset = after

    def offset(self, topic, partition, at=-1):
        """ListOffsets: -1 the end, -2 the start, else by time. Any error raises."""
        answer = self.ask(2, 1, pack(">ii", -1, 1) + text(topic) + pack(">iiq", 1, partition, at))
        answer.take("i"), answer.text(), answer.take("i")
        _, code, _, offset = answer.take("ihqq")
        if code:
            raise Refused(code, f"offset of {topic}-{partition}")
        return offset

    def topics(self):
        """{name: number of partitions}"""
        answer, found = self.ask(3, 1, pack(">i", -1)), {}
        for _ in range(answer.take("i")):
            answer.take("i"), answer.text(), answer.take("i"), answer.text()
        answer.take("i")
        for _ in range(answer.take("i")):
            code, name = answer.take("h"), answer.text()
            answer.take("b")
            count = answer.take("i")
            for _ in range(count):
                answer.take("hii")
                for _ in range(2):
                    replicas = answer.take("i")
                    answer.at += 4 * replicas
            if not code:
                found[name] = count
        return found

    def create(self, topic, partitions=1, **configs):
        pairs = {k.replace("_", "."): str(v) for k, v in configs.items()}
        body = pack(">i", 1) + text(topic) + pack(">ihi", partitions, 1, 0) + pack(">i", len(pairs))
        body += b"".join(text(k) + text(v) for k, v in pairs.items()) + pack(">ib", 15000, 0)
        answer = self.ask(19, 2, body)
        answer.take("ii"), answer.text()
        return answer.take("h")

    def delete(self, topic):
        answer = self.ask(20, 1, pack(">i", 1) + text(topic) + pack(">i", 15000))
        answer.take("ii"), answer.text()
        return answer.take("h")

    def trim(self, topic, partition, offset):
        """DeleteRecords: (error code, log start)"""
        answer = self.ask(21, 0, pack(">i", 1) + text(topic) + pack(">iiqi", 1, partition, offset, 15000))
        answer.take("ii"), answer.text(), answer.take("i")
        _, start, code = answer.take("iqh")
        return code, start

    def commit(self, group, topic, offsets):
        """Commits {partition: offset}: {partition: error code}"""
        body = text(group) + pack(">i", -1) + text("") + pack(">qi", -1, 1) + text(topic) + pack(">i", len(offsets))
        answer = self.ask(8, 2, body + b"".join(pack(">iq", p, o) + text("") for p, o in offsets.items()))
        answer.take("i"), answer.text()
        return dict(answer.take("ih") for _ in range(answer.take("i")))

    def committed(self, group, topic, partitions):
        """{partition: offset}; any error raises."""
        body = text(group) + pack(">i", 1) + text(topic) + pack(">i", len(partitions))
        answer, found = self.ask(9, 1, body + b"".join(pack(">i", p) for p in partitions)), {}
        answer.take("i"), answer.text()
        for _ in range(answer.take("i")):
            partition, offset = answer.take("iq")
            answer.text()
            if code := answer.take("h"):
                raise Refused(code, f"committed offset of {group}")
            found[partition] = offset
        return found

    def producer_id(self):
        answer = self.ask(22, 0, text(None) + pack(">i", 60000))
        _, code, producer, epoch = answer.take("ihqh")
        if code:
            raise Refused(code, "producer id")
        return producer, epoch
