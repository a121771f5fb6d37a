"""What measuring scripts share: running a program while watching its time and memory, and naming the machine."""

import os
import platform
import subprocess
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


def run(command, *, environment=None, timeout=None, watch_last=None):
    """Run to the end: the figures, and what it printed. Figures are

    process_s        from the start of the process until its end
    peak_bytes       its largest resident set (getrusage)
    resident_bytes   with `watch_last`: the largest resident set sampled in that many seconds before its end
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as diagnostics:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=output, stderr=diagnostics, env=environment)
        alarm = threading.Timer(timeout, child.kill) if timeout else None
        watch = Watch(child.pid) if watch_last else None
        for thread in filter(None, (alarm, watch)):
            thread.start()
        _, status, usage = os.wait4(child.pid, 0)
        end = time.perf_counter()
        child.returncode = os.waitstatus_to_exitcode(status)
        if alarm:
            alarm.cancel()
        if watch:
            watch.ended.set()
            watch.join()
        if child.returncode != 0:
            if timeout and end - start >= timeout:
                raise Failed(f"not done after {timeout:.0f} s")
            diagnostics.seek(0)
            raise Failed(last_words(diagnostics.read().decode(errors="replace"), child.returncode))
        output.seek(0)
        figures = {"process_s": end - start, "peak_bytes": usage.ru_maxrss * 1024}
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
