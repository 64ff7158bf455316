"""One broker process per suite: starts it on free ports with a fresh data directory, knows when it is ready, restarts and stops it.

A command holds {port}, {dir} and {props} (key=value...) or {xprops} (-X key=value...), weir's also {kinesis} and {admin} (HOST:PORT or off). Weir's ready line on stdout is asked for
when the command is weir's own; any broker must also answer ApiVersions. Only process groups started here are ever ended.
"""
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KAFKA = f"{ROOT}/tests/clients/kafka run {{port}} {{dir}} {{props}}"
WEIR = "{binary} serve --data-dir {dir} --listen 127.0.0.1:{port} --kinesis {kinesis} --admin {admin} {xprops}"
API_VERSIONS_V0 = bytes.fromhex("0000000a00120000000000070000")
groups, taken, guard = set(), set(), threading.Lock()


def free_port():
    """A free port below the ephemeral range, whose port + 1000 (Kafka's controller) is free too. Never handed out twice."""
    while True:
        port = random.randrange(20000, 31000)
        try:
            for p in (port, port + 1000):
                with socket.socket() as s:
                    s.bind(("127.0.0.1", p))
        except OSError:
            continue
        with guard:
            if not {port, port + 1000} & taken:
                taken.update((port, port + 1000))
                return port


def end_group(pid, grace_s=0):
    """Ends one process group that was started here: SIGTERM, then SIGKILL after the grace."""
    for sig, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 0)):
        if sig == signal.SIGTERM and not grace_s:
            continue
        try:
            os.killpg(pid, sig)
        except ProcessLookupError:
            break
        until = time.time() + wait_s
        while time.time() < until:
            try:
                os.killpg(pid, 0)
            except ProcessLookupError:
                break
            time.sleep(0.05)
    with guard:
        groups.discard(pid)


def spawn(command, **how):
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **how)
    with guard:
        groups.add(child.pid)
    return child


class BrokerFailed(Exception):
    """It did not start, or went away on its own; the message says which and why."""


class Broker:
    def __init__(self, template, props, logs, port=None, doors=()):
        self.port = port or free_port()
        self.kinesis, self.admin = (f"127.0.0.1:{free_port()}" if door in doors else "off" for door in ("kinesis", "admin"))
        self.address = f"127.0.0.1:{self.port}"
        self.home = tempfile.mkdtemp(prefix="data-", dir=logs)
        self.out, self.err = Path(logs, f"broker-{self.port}.out"), Path(logs, f"broker-{self.port}.err")
        self.weir = "weir" in Path(template.split()[0]).name
        pairs = [f"{k}={v}" for k, v in props.items()]
        fields = {"port": self.port, "dir": self.home, "kinesis": self.kinesis, "admin": self.admin, "props": " ".join(pairs), "xprops": " ".join(f"-X {p}" for p in pairs)}
        self.command = shlex.split(template.format(**fields))
        self.child = None

    def start(self, limit_s=60):
        shown = self.out.stat().st_size if self.out.exists() else 0
        with open(self.out, "ab") as out, open(self.err, "ab") as err:
            self.child = spawn(self.command, stdout=out, stderr=err)
        until = time.time() + limit_s
        while time.time() < until:
            if self.child.poll() is not None:
                raise BrokerFailed(f"the broker left with {self.child.returncode} at start: {self.tail()}")
            if (not self.weir or self.out.stat().st_size > shown) and self.answers():
                return self
            time.sleep(0.02)
        raise BrokerFailed(f"the broker was not ready within {limit_s} s: {self.tail()}")

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                s.settimeout(2)
                s.sendall(API_VERSIONS_V0)
                return len(s.recv(4)) == 4
        except OSError:
            return False

    def tail(self, chars=600):
        text = self.err.read_text(errors="replace") if self.err.exists() else ""
        return " ".join(text[-chars:].split())

    def stop(self, grace_s=30):
        """SIGTERM; returns what is wrong with how it ended, or an empty string."""
        if self.child is None:
            return ""
        gone = self.child.poll()
        if gone is None:
            os.killpg(self.child.pid, signal.SIGTERM)
            try:
                self.child.wait(grace_s)
            except subprocess.TimeoutExpired:
                end_group(self.child.pid)
                self.child.wait()
                return f"not gone {grace_s} s after SIGTERM"
        end_group(self.child.pid)
        if gone is not None:
            return f"went away on its own with {gone}: {self.tail()}"
        if self.weir and self.child.returncode != 0:
            return f"left with {self.child.returncode} on SIGTERM: {self.tail()}"
        panic = next((l for l in self.err.read_text(errors="replace").splitlines() if "panicked at" in l), "")
        return panic

    def discard(self):
        if self.child is not None:
            end_group(self.child.pid)
            self.child.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def restart_on_request(self, request):
        """Restarts the broker whenever the file `request` appears, and removes it once the broker answers again."""
        def watch():
            while self.child is not None and self.child.poll() is None:
                if request.exists():
                    self.stop()
                    try:
                        self.start(120)
                    finally:
                        request.unlink()
                time.sleep(0.05)
        threading.Thread(target=watch, daemon=True).start()
