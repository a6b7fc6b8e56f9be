"""What the rules keep: one mutable record for each thing, stored as MessagePack arrays.

Fields are only ever appended, with defaults, so that two versions of the package can share a store. What an earlier
version cannot read all the same raises `FORMAT`.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from cross_instance.rules.operations import FOREVER, AccountSpec, Entry, Kind, Source, Workload

FORMAT = 1
"""The newest form of what is stored: it rises with every new value of an enumeration, so that an earlier version that
meets one can tell a newer one's record from a damaged one."""


class Record(msgspec.Struct, array_like=True):
    """Base of every stored record."""


class Limit(Record):
    """One limit in force.

    A bucket's `level` counts units times `den`; each µs adds `num`, so that refilling needs no division and never
    drifts (`num`/`den` is the rate in units per µs, reduced). `cap` is what it may hold, in units: the burst less
    the guard. `at` is when the level was right; in the future while an overload drains it. A fixed window keeps the
    number of the present one in `window`, and in `at` minus its guard in µs. Concurrency uses `amount` alone (what is
    taken is the node's `held`) and never needs refilling: its `at` is for ever. `charges` counts the charges ever
    made, `peaks` tells how high the level stood before some of the last, `low` where it stood after the last
    (`limits.note`).
    """

    kind: Kind
    amount: int
    burst: int
    period: int
    source: Source
    correct: bool
    refund: bool
    anchor: int | None
    num: int
    den: int
    cap: int
    level: int
    at: int
    window: int = 0
    charges: int = 0
    peaks: list[tuple[int, int]] = []
    low: int = 0


class Node(Record):
    """A node of the limits' tree: the cluster "", an account, or a model group of one.

    `waiting` and `held` count everything below; `held` includes ghosts. `virtual` is fair queueing's time, counted
    anew in each busy period `busy`. `children` are the nodes below with waiters. `armed` is the waiter whose timer
    covers this node and the instant it is set to. Accounts also have: whether they are `clustered`, `revision` and
    `patterns` of their configuration, `reserved` instances with what each wants in a minute, whether that is `scaled`
    down, the pause, the epochs of (requests, tokens, concurrency), `streak` overloads in a row and `accepted` since the
    last, `spread` of the delay from grant to send (µs). `departed` is what instances that left had used lately
    (`usage`); `retired` are buckets that nobody publishes now. `granted` counts all requests ever granted; from the
    instant `watch` on a grant is the learner's business, and a success that started with more than `notable` others in
    flight.
    """

    limits: list[Limit] = []
    waiting: int = 0
    held: int = 0
    virtual: int = 0
    busy: int = 0
    children: list[str] = []
    armed: tuple[int, int, int] = (0, 0, 0)
    paused_until: int = 0
    epochs: tuple[int, int, int] = (0, 0, 0)
    streak: int = 0
    accepted: int = 3
    spread: int = 0
    revision: int = 0
    patterns: tuple[str, ...] = ()
    clustered: bool = False
    reserved: list[tuple[int, int]] = []
    ageing: int = 0
    departed: list[int] = []
    departed_at: int = 0
    retired: list[Limit] = []
    scaled: bool = False
    granted: int = 0
    watch: int = FOREVER
    notable: int = FOREVER


class Flow(Record):
    """One instance at one account: its weight, its reserve as a bucket (as in `Limit`), what it used lately.

    `used` counts grants in slots of five seconds, `slot` is the number of the last one. An `asleep` flow let an offer
    lapse: its waiters are passed over until it is heard of.
    """

    weight: int = 1
    reserve: int = 0
    level: int = 0
    at: int = 0
    used: list[int] = []
    slot: int = 0
    asleep: bool = False


class Tag(Record):
    """One instance in a node's fair queue: its finish tag in the busy period `busy`, its waiters, and the indexed
    head (tag, arrival, seq) of each class."""

    finish: int = 0
    busy: int = 0
    waiting: int = 0
    heads: dict[int, tuple[int, int, int]] = {}


class State(IntEnum):
    """Where a permit stands."""

    WAITING = 0
    OFFERED = 1
    HELD = 2
    GHOST = 3


class Permit(Record):
    """A request from its arrival to its settlement. `costs`: requests, tokens, input, output tokens, as charged.

    `marks` says for each node on its path (narrowest first) and each kind of bucket how many `charges` there had
    been when this permit was charged; 0 where nothing was.

    `expires` is when an offer passes on, or a ghost ends. `clustered`: it counts at the cluster's node. `stamp` is what
    the learner wants to know of the grant: how many requests its narrowest node had granted before, the instant, how
    many were in flight besides, and how many tokens had been granted, where those are learned.
    """

    state: State
    account: str
    group: str
    model: str
    rank: int
    costs: tuple[int, int, int, int]
    arrival: int
    deadline: int
    epochs: tuple[int, int, int] = (0, 0, 0)
    expires: int = 0
    reserved: bool = False
    clustered: bool = False
    share: int = 0
    marks: tuple[int, ...] = ()
    stamp: tuple[int, int, int, int] = (0, 0, 0, 0)


class Standing(Record):
    """How a `Permit` begins: all that is needed of most of them."""

    state: State


class Instance(Record):
    """A live instance; `deadline` is when it counts as silent.

    `accounts` are those it published limits for, `specs` the numbers of what it said of each (`publications`).

    `broadcast_at` is when it last told its queue (mono µs, 0: never), `taken` the ids of its entries that were stolen
    and of which it need be told, `stolen` what it stole last: seq, entry, victim.
    """

    instance_id: str
    nonce: str
    pid: int
    machine: str
    host: str
    session_id: str
    cwd: str
    version: str
    timeout: int
    joined_at: int
    beat_at: int
    deadline: int
    workload: Workload
    accounts: list[str] = []
    taken: list[str] = []
    broadcast_at: int = 0
    stolen: tuple[int, Entry, str] | None = None
    specs: list[int] = []


class Lost(Record):
    """The ids of entries that were taken from an instance before it was removed, at a wall time (µs)."""

    at: int
    taken: list[str]


class HeldLock(Record):
    """A named lock; it stays for a while after its release (`lapses`), without a token then."""

    incarnation: int
    token: str
    fence: int
    acquired_at: int
    expires_at: int


encode = msgspec.msgpack.Encoder().encode
decode_node = msgspec.msgpack.Decoder(Node).decode
decode_flow = msgspec.msgpack.Decoder(Flow).decode
decode_tag = msgspec.msgpack.Decoder(Tag).decode
decode_standing = msgspec.msgpack.Decoder(Standing).decode
decode_permit = msgspec.msgpack.Decoder(Permit).decode
decode_instance = msgspec.msgpack.Decoder(Instance).decode
decode_spec = msgspec.msgpack.Decoder(AccountSpec).decode
decode_origin = msgspec.msgpack.Decoder(str).decode
decode_told = msgspec.msgpack.Decoder(dict[str, tuple[tuple[Kind, int, int, bool, bool, int], ...]]).decode
decode_lock = msgspec.msgpack.Decoder(HeldLock).decode
decode_lost = msgspec.msgpack.Decoder(Lost).decode
