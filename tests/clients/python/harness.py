"""What the Python programs have in common: the records, the order of the cases, and one line for each.

A program is called with BOOTSTRAP PREFIX CASE…; every topic and group that it makes begins with PREFIX.
"""

import asyncio
import inspect
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field

PATIENCE = 30.0
"""How long, in seconds, anything may take before it has failed."""

BOOTSTRAP, PREFIX = sys.argv[1], sys.argv[2]


@dataclass
class Record:
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    timestamp: int = 0


def noise(length: int) -> bytes:
    """Bytes that compress to somewhat more than half, the same in every language."""
    state, out = 12345, bytearray(length)
    for i in range(length):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        out[i] = (state >> 16) & 0x0F
    return bytes(out)


FIRST = 1_700_000_000_000


def records() -> list[Record]:
    """The records of the codec cases, a second apart."""
    all = [
        Record(b"k0", b"v0", [("h", b"1")]),
        Record(None, b"no key"),
        Record(b"tombstone", None, [("why", b"deleted")]),
        Record(b"", b""),
        Record(b"\x00\xff\x80\xfe\x00", bytes(range(256)), [("binary", b"\x00\xff\x0a"), ("empty", b"")]),
        Record(b"large", noise(100_000)),
    ]
    for i in range(6, 12):
        all.append(Record(b"key-%d" % i, b"value-%d " % i * i, [("n", b"%d" % i), ("m", b"x")]))
    for i, record in enumerate(all):
        record.timestamp = FIRST + 1000 * i
    return all


def same(got: list[Record], wanted: list[Record]) -> None:
    """The records are these."""
    for i, (g, w) in enumerate(zip(got, wanted)):
        for name in ("key", "value", "headers", "timestamp"):
            a, b = getattr(g, name), getattr(w, name)
            if a != b:
                raise AssertionError(f"record {i}: {name} is {str(a)[:80]}, not {str(b)[:80]}")
    if len(got) != len(wanted):
        raise AssertionError(f"{len(got)} records, not {len(wanted)}")


def equal(got: object, wanted: object, what: str) -> None:
    if got != wanted:
        raise AssertionError(f"{what}: {str(got)[:300]}, not {str(wanted)[:300]}")


def check(holds: object, what: str) -> None:
    if not holds:
        raise AssertionError(what)


class Deadline:
    """Raises when the time is up: `while deadline.left(): …`."""

    def __init__(self, what: str, seconds: float = PATIENCE) -> None:
        self.what, self.end = what, time.monotonic() + seconds

    def left(self) -> bool:
        if time.monotonic() > self.end:
            raise AssertionError(f"not in time: {self.what}")
        return True


def topic(case: str, suffix: str = "") -> str:
    return f"{PREFIX}.{case}{suffix}"


def restart() -> threading.Event:
    """Asks for a restart of the broker; the event is set when it is up again."""
    done = threading.Event()

    def ask() -> None:
        print("restart", flush=True)
        sys.stdin.readline()
        done.set()

    threading.Thread(target=ask, daemon=True).start()
    return done


def run(cases: dict) -> None:
    """Runs the cases that the command line names."""
    loop = asyncio.new_event_loop()
    for name in sys.argv[3:]:
        case = cases.get(name)
        if case is None:
            print(f"skip {name}", flush=True)
            continue
        begin = time.monotonic()
        try:
            if inspect.iscoroutinefunction(case):
                loop.run_until_complete(asyncio.wait_for(case(), 2 * PATIENCE))
            else:
                case()
            print(f"ok {name}", flush=True)
        except BaseException as error:  # a client's errors are of many kinds
            traceback.print_exc()
            text = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"not ok {name}: {text[:400]}", flush=True)
        print(f"{name}: {time.monotonic() - begin:.1f} s", file=sys.stderr)
    sys.stdout.flush()
