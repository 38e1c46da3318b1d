"""What a process and its descendants take of the machine, and how to give them less."""
import os
import re
import signal
import threading
import time


def tree(root):
    """The process and all its descendants."""
    found = [root]
    for pid in found:
        for task in tasks(pid):
            try:
                with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as children:
                    found += map(int, children.read().split())
            except FileNotFoundError:
                pass
    return found


def tasks(pid):
    """The threads of a process, which may have ended."""
    try:
        return os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return []


def cpu_seconds(root):
    total = 0
    for pid in tree(root):
        for task in tasks(pid):
            try:
                with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as schedstat:
                    total += int(schedstat.read().split()[0])
            except FileNotFoundError:
                pass
    return total / 1e9


def memory_mib(root, what):
    """`VmRSS`, what is resident now, or `VmHWM`, the most that was."""
    total = 0
    for pid in tree(root):
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            found = re.search(rf"{what}:\s+(\d+)", status.read())
            total += int(found.group(1)) if found else 0
    return total / 1024


class Quota:
    """Holds a process to a share of one core's time while it is entered, as the quota of a cgroup does, without root.

    Looks every 2 ms how much was used, and stops the process while that is more than its share. What was not used
    within 10 ms is lost.
    """

    LOOK, SAVED = 0.002, 0.010

    def __init__(self, pid, share):
        self.pid, self.share = pid, share
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.hold, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def hold(self):
        stopped, budget, then, used = False, 0.0, time.monotonic(), cpu_seconds(self.pid)
        try:
            while not self.over.wait(self.LOOK):
                now, cpu = time.monotonic(), cpu_seconds(self.pid)
                budget = min(budget + (now - then) * self.share - (cpu - used), self.SAVED * self.share)
                then, used = now, cpu
                if stopped != (budget < 0):
                    stopped = not stopped
                    os.kill(self.pid, signal.SIGSTOP if stopped else signal.SIGCONT)
        finally:
            os.kill(self.pid, signal.SIGCONT)
