"""Run chosen Go tests of a module from the Go proxy, one process per test, one verdict line per test and subtest."""
import fcntl
import re
import subprocess
import sys
import time

from lab import LAB, LOGS

VERDICT = {"PASS": "pass", "FAIL": "fail", "SKIP": "skip"}


def build(name, module, version, packages):
    """{package: test binary} in the lab, built once; exits 2 if it cannot be had."""
    lab = LAB / name
    exe = {p: lab / f"{p.replace('/', '-') or 'root'}.test" for p in packages}
    alone = open(LAB / f"{name}.lock", "w")  # two builds at once would spoil each other's files
    fcntl.flock(alone, fcntl.LOCK_EX)
    try:
        if not all(e.exists() for e in exe.values()):
            lab.mkdir(parents=True, exist_ok=True)
            (lab / "go.mod").write_text("module lab\n\ngo 1.25\n")
            go = lambda *a: subprocess.run(["go", *a], cwd=lab, check=True, stdout=sys.stderr, timeout=900)
            full = {p: f"{module}/{p}".rstrip("/") for p in packages}
            go("get", "-t", *(f"{f}@{version}" for f in full.values()))
            for p in packages:
                go("test", "-p", "2", "-c", "-o", exe[p], full[p])
    except (OSError, subprocess.SubprocessError) as e:
        print(e, file=sys.stderr)
        sys.exit(2)
    alone.close()
    return exe


def run(exe, name, env, limit, prefix=(), flags=()):
    """Verdicts of one top-level test (or A|B, together) and its subtests, in a process of their own."""
    start, seen, done = time.time(), [], {}
    log = LOGS / f"{name.split('|')[-1]}.log"
    cmd = [*prefix, exe, f"-test.run=^Test({name})$", "-test.v=test2json", f"-test.timeout={limit}s", *flags]
    with open(log, "w+", errors="replace") as out, open(f"{log}.err", "w") as err:
        try:
            subprocess.run(cmd, cwd=exe.parent, env=env, stdout=out, stderr=err, timeout=limit + 20)
        except subprocess.TimeoutExpired:
            pass
        out.seek(0)
        for line in out:
            if m := re.match(r"\x16?=== RUN +(\S+)", line):
                seen.append(m[1])
            elif m := re.match(r"\s*\x16?--- (PASS|FAIL|SKIP): (\S+) \(([\d.]+)s\)", line):
                done[m[2]] = VERDICT[m[1]], float(m[3])
    spent = time.time() - start
    for test in seen or [f"Test{name}"]:  # no verdict: a panic, the time limit, or a kill
        yield test, *done.get(test, ("fail", spent))


def report(verdicts):
    count = dict.fromkeys(VERDICT.values(), 0)
    for test, verdict, seconds in verdicts:
        count[verdict] += 1
        print(f"{verdict} {test} {seconds:.1f}", flush=True)
    print("{pass} passed, {fail} failed, {skip} skipped".format(**count))
