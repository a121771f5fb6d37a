"""What measuring scripts share: running a program while watching its time and memory, and naming the machine."""

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path


class Failed(RuntimeError):
    """A program that ended with an error or took too long; the text is its last words."""


def last_words(diagnostics, status):
    """The line of a program's diagnostics that says what went wrong."""
    lines = [line.strip() for line in diagnostics.splitlines() if line.strip()]
    error = next((line for line in lines if line.lower().startswith("error")), None)
    return error or (lines[-1] if lines else f"exit status {status}")


class Watch(threading.Thread):
    """Samples the resident set of a process ten times a second."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.path, self.samples, self.ended = Path(f"/proc/{pid}/status"), [], threading.Event()

    def run(self):
        while not self.ended.wait(0.1):
            try:
                lines = self.path.read_text().splitlines()
            except OSError:
                return
            resident = next((line for line in lines if line.startswith("VmRSS")), None)
            if resident is not None:  # a process that is ending has none
                self.samples.append((time.perf_counter(), int(resident.split()[1]) * 1024))

    def largest_since(self, moment):
        return max((size for at, size in self.samples if at >= moment), default=None)


# Starts a program and waits for it. The largest resident set that the system reports of a process counts what it was
# before it became the program, that is, whoever started it: so a small interpreter does, not this one with its arrays.
STARTER = """
import json, os, sys, time
report = int(sys.argv[1])
start = time.perf_counter()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ, file_actions=[(os.POSIX_SPAWN_CLOSE, report)])
os.write(report, f"{pid}\\n".encode())
_, status, usage = os.wait4(pid, 0)
end = time.perf_counter()
os.write(report, json.dumps([start, end, status, usage.ru_maxrss]).encode())
"""


def run(command, *, environment=None, timeout=None, watch_last=None):
    """Run to the end: the figures, and what it printed. Figures are

    process_s        from the start of the process until its end
    peak_bytes       its largest resident set (getrusage)
    resident_bytes   with `watch_last`: the largest resident set sampled in that many seconds before its end
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as diagnostics:
        reader, writer = os.pipe()
        starter = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", STARTER, str(writer), *map(str, command)],
            stdout=output,
            stderr=diagnostics,
            env=environment,
            pass_fds=[writer],
            start_new_session=True,
        )
        os.close(writer)
        alarm = threading.Timer(timeout, os.killpg, (starter.pid, signal.SIGKILL)) if timeout else None
        if alarm:
            alarm.start()
        with os.fdopen(reader) as report:
            pid = report.readline()
            watch = Watch(int(pid)) if watch_last and pid else None
            if watch:
                watch.start()
            words = report.read()
        starter.wait()
        if alarm:
            alarm.cancel()
        if watch:
            watch.ended.set()
            watch.join()
        if not words and starter.returncode == -signal.SIGKILL and timeout:
            raise Failed(f"not done after {timeout:.0f} s")
        start, end, status, peak = json.loads(words) if words else (0.0, 0.0, 1 << 8, 0)
        code = os.waitstatus_to_exitcode(status)
        if code != 0:
            diagnostics.seek(0)
            raise Failed(last_words(diagnostics.read().decode(errors="replace"), code))
        output.seek(0)
        figures = {"process_s": end - start, "peak_bytes": peak * 1024}
        if watch:
            figures["resident_bytes"] = watch.largest_since(end - watch_last)
        return figures, output.read()


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine():
    """Where and when: what every record of a measurement opens with."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
    }
