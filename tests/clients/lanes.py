"""A list scheduler for a small machine: jobs with a cost in cores, run in the order given as soon as what they need is done and they fit."""
import os
import threading
import time
import traceback


class Job:
    """`run` returns True when those that need this job may go on. `cost`: cores it keeps busy, 0.3 for one that mostly waits.
    `after`: jobs that must have succeeded; `wait_for`: jobs that must have ended, well or not."""
    def __init__(self, name, run, cost=1.0, after=(), wait_for=()):
        self.name, self.run, self.cost, self.after, self.wait_for = name, run, cost, tuple(after), tuple(wait_for)


def run_all(jobs, give_up_at, cores=None):
    """Runs every job once; a job whose need failed does not run. Returns {name: True, False or None (never ran)}."""
    cores, done, running, woken = cores or min(2, os.cpu_count() or 2), {}, {}, threading.Condition()
    waiting, known = list(jobs), {j.name for j in jobs}

    def body(job):
        ok = False
        try:
            ok = bool(job.run())
        except Exception:
            traceback.print_exc()
        with woken:
            done[job.name] = ok
            del running[job.name]
            woken.notify()

    with woken:
        while (waiting or running) and time.time() < give_up_at:
            for job in list(waiting):
                needs = [done.get(n) for n in job.after if n in known]
                needs += [None for n in job.wait_for if n in known and n not in done]
                if False in needs:
                    done[job.name] = False
                    waiting.remove(job)
                elif None not in needs and (not running or sum(running.values()) + job.cost <= cores + 0.01):
                    waiting.remove(job)
                    running[job.name] = job.cost
                    threading.Thread(target=body, args=(job,), daemon=True).start()
            woken.wait(1)
    return {j.name: done.get(j.name) for j in jobs}
