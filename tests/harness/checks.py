"""Named checks: each prints one line, `ok`, `FAIL` or `skip`, and the run ends with `N passed, N failed`."""

import os
import signal
import sys
import time
import traceback

REGISTERED = []
TIME_LIMIT_SECONDS = int(os.environ.get("CHECK_TIME_LIMIT", "120"))


class Skip(Exception):
    """Raised by a check whose prerequisite is missing; the text says which."""


class Failure(Exception):
    """What the user would have seen is not what was seen."""


def check(name):
    """Registers a function as the check `name`; checks run in the order of their definition."""

    def register(function):
        REGISTERED.append((name, function))
        return function

    return register


def expect(condition, message):
    """Fails the running check with `message` unless `condition` holds."""
    if not condition:
        raise Failure(message)


def expect_equal(seen, wanted, what):
    """Fails the running check unless `seen` equals `wanted`."""
    expect(seen == wanted, f"{what}: saw {seen!r}, wanted {wanted!r}")


def eventually(what, seconds, condition):
    """Polls `condition` until it gives something true, which it returns; fails the check after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        expect(time.monotonic() < deadline, f"{what}: not within {seconds} s")
        time.sleep(0.02)


def _on_alarm(_signal, _frame):
    raise Failure(f"did not end in {TIME_LIMIT_SECONDS} s")


def _run_one(name, function):
    """Runs one check and says how it ended: 'ok', 'FAIL' or 'skip'."""
    signal.signal(signal.SIGALRM, _on_alarm)
    signal.alarm(TIME_LIMIT_SECONDS)
    start = time.monotonic()
    try:
        function()
    except Skip as reason:
        print(f"skip {name}: {reason}", flush=True)
        return "skip"
    except Exception as problem:
        print(f"FAIL {name}: {problem or type(problem).__name__}", flush=True)
        if not isinstance(problem, Failure):
            traceback.print_exc()
        return "FAIL"
    finally:
        signal.alarm(0)
    print(f"ok   {name} ({time.monotonic() - start:.2f} s)", flush=True)
    return "ok"


def main(cleanup=lambda: None, on_failure=lambda: None):
    """Runs every registered check whose name holds one of the words of the command line; exits 1 if any failed."""
    words = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    chosen = [(n, f) for n, f in REGISTERED if not words or any(w in n for w in words)]
    results = []
    try:
        for name, function in chosen:
            results.append(_run_one(name, function))
            if results[-1] == "FAIL":
                on_failure()
    finally:
        cleanup()
    if "skip" in results:
        print(f"{results.count('skip')} skipped")
    print(f"{results.count('ok')} passed, {results.count('FAIL')} failed", flush=True)
    sys.exit(1 if "FAIL" in results else 0)
