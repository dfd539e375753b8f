"""What the Python programs have in common: the records, the order of the cases, and one line for each.

A program is called with BOOTSTRAP PREFIX CASE…; every topic and group that it makes begins with PREFIX.
"""

import asyncio
import inspect
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

PATIENCE = 90.0
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


def numbers(count: int, first: int = 0) -> list[bytes]:
    """Numbers as texts."""
    return [b"%d" % i for i in range(first, first + count)]


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


def settle(what: str, holds: Callable[[], bool], *members) -> None:
    """Lets the members poll until it holds."""
    deadline = Deadline(what)
    while not holds() and deadline.left():
        for member in members:
            member.poll()


def rebalanced(join: Callable, fill: Callable):
    """A second member comes to a group that reads four partitions, and leaves: nothing is lost meanwhile. The one that stayed.

    `join` makes a member: what it `has`, what it has `read` as (partition, offset), `poll`, `commit`, `close`. `fill` writes a
    record to each partition.
    """
    fill()
    a = join()
    settle("one has 4", lambda: a.has() == [0, 1, 2, 3] and len(a.read) >= 4, a)
    a.commit()
    b = join()
    settle("both have 2", lambda: len(a.has()) == len(b.has()) == 2 and sorted(a.has() + b.has()) == [0, 1, 2, 3], a, b)
    fill()
    both = lambda: {at for at, o in a.read if o == 1} | {at for at, o in b.read if o == 1}
    settle("both read", lambda: both() == {0, 1, 2, 3}, a, b)
    b.close()
    settle("the one that stays has 4", lambda: a.has() == [0, 1, 2, 3], a)
    a.close()
    return a


def static_returns(join: Callable) -> None:
    """Of members with these names one comes back in time: it has what it had, and the other one is not disturbed."""
    a = join("a")
    settle("one has 4", lambda: len(a.has()) == 4, a)
    b = join("b")
    settle("both have 2", lambda: len(a.has()) == len(b.has()) == 2, a, b)
    had, turns = b.has(), len(a.assigned)
    b.close()
    b = join("b")
    settle("it is back", lambda: len(b.has()) == 2, a, b)
    # A rebalance would be told within the other one's next heartbeats.
    end = time.monotonic() + 1
    settle("a moment", lambda: time.monotonic() > end, a, b)
    equal(b.has(), had, "partitions of the one that returned")
    equal(len(a.assigned), turns, "rebalances of the other one")
    a.close()
    b.close()


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


def through_restart() -> Iterator[int]:
    """The numbers of what to send until 50 after the restart of the broker that begins after 50; who takes them waits a little for each."""
    again, more, sent, deadline = None, 50, 0, Deadline("the broker is back", 90)
    while more and deadline.left():
        yield sent
        sent += 1
        if sent == 50:
            again = restart()
        if again and again.is_set():
            more -= 1


def table(codec: Callable, acks: Callable, *cases: Callable, **named: Callable) -> dict:
    """The cases by their names: each codec, each acks, those that are named as their functions are, and those with names of their own."""
    all = {f"codec-{kind}": codec(kind) for kind in ("none", "gzip", "snappy", "lz4", "zstd")}
    all |= {f"acks-{kind}": acks(kind) for kind in ("0", "1", "all")}
    return all | {case.__name__.replace("_", "-"): case for case in cases} | named


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
