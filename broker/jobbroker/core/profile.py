"""A profile: what the broker must know of a backend to share it, declared. The words are those of its TOML file.

Places are paths (`core/dotted.py`), into the params of a request or notification or into a result; times are seconds.
Every member but the command has a default with which any JSON-RPC 2.0 process can be shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct, field

if TYPE_CHECKING:
    from jobclient.protocol.jsonrpc import Json
else:
    Json = Any  # a type that contains itself is beyond msgspec

MIB = 1024 * 1024
Seconds = Annotated[float, Meta(ge=0, le=10**9)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Method = Annotated[str, Meta(min_length=1)]
Values = dict[str, Json]


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a profile: what is not known is refused, lest somebody believe in it."""


class Stop(Table, frozen=True):
    """How it is asked to end, in this order: a request, a notification, the end of its stdin, SIGTERM, SIGKILL.

    Attributes:
        request: a method to call first, and how long its answer is waited for is `eof`.
        notify: a notification to send then.
        eof: how long it may take to end after the end of its stdin.
        term: how long after SIGTERM.
    """

    request: str | None = None
    notify: str | None = None
    eof: Seconds = 3
    term: Seconds = 2


class Process(Table, frozen=True):
    """`[backend]`: the process, and how it talks.

    Attributes:
        command: program and arguments, no shell.
        env: set besides the broker's own environment.
        cwd: where it runs; else the home directory.
        framing: a JSON text a line, or Content-Length headers.
        jsonrpc: whether it is sent the member `jsonrpc`.
        start_timeout: how long it may take until it answers the first time.
        concurrency: requests it is given at once, 0 for any number.
        queue: requests that wait for their turn, if there is such a limit; what is over that is busy.
        max_message: bytes in a message of its.
        stderr_tail: bytes of its stderr that are kept.
    """

    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: str | None = None
    framing: Literal["lines", "headers"] = "lines"
    jsonrpc: bool = True
    stop: Stop = Stop()
    start_timeout: Seconds = 30
    concurrency: Count = 0
    queue: Count = 100
    max_message: Annotated[int, Meta(ge=1024, le=2**31)] = 64 * MIB
    stderr_tail: Annotated[int, Meta(ge=0, le=MIB)] = 64 * 1024


class Handshake(Table, frozen=True):
    """`[handshake]`: said once by the broker; whoever else says it gets what was answered then."""

    request: Method
    params: Json = field(default_factory=dict[str, Json])
    notify: str | None = None


class Probe(Table, frozen=True):
    """`[probe]`: how to tell a hung backend from a silent one. Any answer will do, an error too.

    Attributes:
        idle: silence with requests under way after which it is asked.
        misses: so many unanswered in a row, `wait` apart, are a hang.
        hung: whether a hang is only reported, or ends it.
        while_busy: whether it can answer while it works; one that cannot is only asked while it has nothing to do.
    """

    method: Method = "broker/ping"
    params: Json = field(default_factory=dict[str, Json])
    idle: Annotated[float, Meta(gt=0, le=10**9)] = 30
    wait: Annotated[float, Meta(gt=0, le=10**9)] = 10
    misses: Annotated[int, Meta(ge=1, le=1000)] = 3
    hung: Literal["report", "kill"] = "report"
    while_busy: bool = False


class RefCount(Table, frozen=True):
    """A pair of methods of which the first and the last call go up; what `param` names tells one pair from another."""

    subscribe: Method
    unsubscribe: Method
    param: str


class ClientMethods(Table, frozen=True):
    """`[client_methods]`: what clients may not simply do to a backend that is not theirs alone.

    Attributes:
        deny: refused.
        local: answered by the broker with these values; notifications of that name go nowhere.
        refcount: counted.
        timeout: how long an answer may take, by method, `*` for all others.
    """

    deny: tuple[str, ...] = ()
    local: Values = {}
    refcount: tuple[RefCount, ...] = ()
    timeout: dict[str, Seconds] = {}

    def deadline(self, method: str) -> float:
        """Seconds an answer may take; 120 by default."""
        return self.timeout.get(method, self.timeout.get("*", 120))


class Farewell(Table, frozen=True):
    """A notification when the last client of a key has gone; `$value` is the key."""

    notify: str
    params: Values = {}


class Key(Table, frozen=True):
    """`[[key]]`: something messages speak of, by which they find the clients that care.

    Attributes:
        name: what it is called, for people.
        param: where a client's request names it: from then on it is told of it.
        result: where an answer does, to the client that asked.
        notify: where the backend's notifications and requests name it.
        learn_from: the methods of which `param` and `result` count; all, if there are none.
        forget_on: methods by which a client says that it cares no more.
        on_disconnect: what the backend is told when the last client that cared has gone.
    """

    name: str
    param: str | None = None
    result: str | None = None
    notify: tuple[str, ...] = ()
    learn_from: tuple[str, ...] = ()
    forget_on: tuple[str, ...] = ()
    on_disconnect: Farewell | None = None


class Token(Table, frozen=True):
    """`[[token]]`: an id a client makes up; it is made unique on its way up, and put right on its way down.

    Attributes:
        param: where a request has it.
        learn_from: in which methods; all, if there are none.
        notify: the notifications that come back with it, and where.
        requests: later messages of the client that name it, and where.
        forget_on: those of them that end it; if there are none, the answer to the first request does.
    """

    param: str
    learn_from: tuple[str, ...] = ()
    notify: dict[str, str] = {}
    requests: dict[str, str] = {}
    forget_on: tuple[str, ...] = ()


class Route(Table, frozen=True):
    """`[route]`: notifications that speak of nothing known.

    Attributes:
        unkeyed: those without any key.
        unclaimed: those with a key nobody cares for.
        broadcast: methods for everybody, whatever they speak of.
        lossy: methods a client that does not read loses, instead of its connection.
    """

    unkeyed: Literal["broadcast", "drop"] = "broadcast"
    unclaimed: Literal["broadcast", "drop"] = "drop"
    broadcast: tuple[str, ...] = ()
    lossy: tuple[str, ...] = ()


class ServerRequests(Table, frozen=True):
    """`[server_requests]`: what the backend asks. It always gets an answer.

    Attributes:
        timeout: how long a client may take, by method, `*` for all others.
        default_error: the code of the error where there is nothing better.
        answers: answers by method, where there is nobody to ask; `$each` and `$value` make lists.
        refuse: the same, for what nobody has allowed.
        sole_inflight: one without a key is for the only client with a request under way.
        id_params: notifications by which such a request is over, and where they name its id.
    """

    timeout: dict[str, Seconds] = {}
    default_error: int = -32601
    answers: Values = {}
    refuse: Values = {}
    sole_inflight: bool = False
    id_params: dict[str, str] = {}

    def deadline(self, method: str) -> float:
        """Seconds a client may take; 10 minutes by default."""
        return self.timeout.get(method, self.timeout.get("*", 600))


class RequestCancel(Table, frozen=True):
    """`[request_cancel]`: what takes a request back, where that is named, and whether it is answered all the same."""

    notify: str
    id: str
    answered: bool = True


class End(Table, frozen=True):
    """A notification that ends a turn.

    Attributes:
        match: what must be where; `$name` is a var.
        status: where it says how it ended; without it, it has completed.
        error: where it says what went wrong.
    """

    method: Method
    match: Values = {}
    status: str | None = None
    error: str | None = None


class Take(Table, frozen=True):
    """The result of a turn from notifications: the last one's value at a place, or all of them in a row."""

    method: Method
    path: str
    match: Values = {}
    take: Literal["last", "concat"] = "last"


class Progress(Table, frozen=True):
    """What tells that a turn goes on; kept as its stderr."""

    methods: tuple[str, ...]
    match: Values = {}


class Cancel(Table, frozen=True):
    """What asks for the end of a turn: a request or a notification."""

    request: str | None = None
    notify: str | None = None
    params: Values = {}


class JobRule(Table, frozen=True):
    """`[[job]]`: a method that can be run as a turn.

    Attributes:
        start: the method.
        vars: names of what is found in `params` and `result`, by paths that begin with one of the two.
        end: the answer itself, or a notification.
        status_map: what the backend's words for an end mean.
        error_flag: where a result says that it is none.
        result: the answer, or something from notifications; `result_path` is where in the answer.
        cancel: how to end it; `request_cancel` is the notification of that name, `none` only forgets it.
        timeout, idle_timeout: limits of a turn that asks for none; without `timeout` the broker's own.
        exclusive: vars of which there may be only one turn at a time.
        on_disconnect: what becomes of it with the connection that started it.
        attach_grace: how long what it asks waits for a client, if there is none.
    """

    start: Method
    vars: dict[str, str] = {}
    end: Literal["response"] | End = "response"
    status_map: dict[str, Literal["completed", "failed", "cancelled"]] = {}
    error_flag: str | None = None
    result: Literal["response"] | Take = "response"
    result_path: str | None = None
    progress: Progress | None = None
    cancel: Literal["request_cancel", "none"] | Cancel = "request_cancel"
    timeout: Seconds | None = None
    idle_timeout: Seconds = 0
    exclusive: tuple[str, ...] = ()
    on_disconnect: Literal["keep", "cancel"] = "keep"
    attach_grace: Seconds = 0


class Profile(Table, frozen=True):
    """A whole profile.

    Attributes:
        name: what it is called.
    """

    name: str
    backend: Process = Process()
    handshake: Handshake | None = None
    probe: Probe = Probe()
    client_methods: ClientMethods = ClientMethods()
    key: tuple[Key, ...] = ()
    token: tuple[Token, ...] = ()
    route: Route = Route()
    server_requests: ServerRequests = ServerRequests()
    request_cancel: RequestCancel | None = None
    job: tuple[JobRule, ...] = ()

    def rule(self, method: str) -> JobRule:
        """How a method is run as a turn; one without a rule ends with its answer."""
        return next((rule for rule in self.job if rule.start == method), JobRule(start=method))
