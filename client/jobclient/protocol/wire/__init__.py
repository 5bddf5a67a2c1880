"""What travels: a job as clients see it, and the parameters and result of every method; a file for each group.

Python names are snake_case, wire names camelCase. A member that is null is absent. Unknown members of parameters are
refused, lest a client believe in an option this broker does not have; of results, clients ignore what they do not know.
"""

from jobclient.protocol import PROTOCOL_VERSION as PROTOCOL_VERSION
from jobclient.protocol.wire.backend import (
    Backend as Backend,
    BackendExit as BackendExit,
    BackendProfile as BackendProfile,
    BackendProfiles as BackendProfiles,
    BackendProfilesParams as BackendProfilesParams,
    BackendRequestParams as BackendRequestParams,
    BackendResult as BackendResult,
    BackendState as BackendState,
    BackendStatus as BackendStatus,
)
from jobclient.protocol.wire.broker import (
    BrokerStatus as BrokerStatus,
    Connection as Connection,
    Direction as Direction,
    Limits as Limits,
    Ping as Ping,
    Places as Places,
    ShutdownParams as ShutdownParams,
    Traced as Traced,
    TraceParams as TraceParams,
    Tracing as Tracing,
)
from jobclient.protocol.wire.control import (
    Cancelled as Cancelled,
    CancelParams as CancelParams,
    CleanupParams as CleanupParams,
    InputParams as InputParams,
    Process as Process,
    Processes as Processes,
    Removed as Removed,
    SignalParams as SignalParams,
)
from jobclient.protocol.wire.events import (
    BrokerShuttingDown as BrokerShuttingDown,
    JobOutput as JobOutput,
    JobRemoved as JobRemoved,
    JobUpdated as JobUpdated,
    Subscribed as Subscribed,
    SubscribeParams as SubscribeParams,
)
from jobclient.protocol.wire.job import (
    LIVE as LIVE,
    MAX_NUMBER as MAX_NUMBER,
    TERMINAL as TERMINAL,
    Amount as Amount,
    Base64 as Base64,
    Encoding as Encoding,
    Job as Job,
    JsonParams as JsonParams,
    Kind as Kind,
    OneStream as OneStream,
    Origin as Origin,
    ParentTick as ParentTick,
    Reason as Reason,
    ResourceLimit as ResourceLimit,
    ShutdownMode as ShutdownMode,
    Status as Status,
    StdinKind as StdinKind,
    Stream as Stream,
    StreamName as StreamName,
    Target as Target,
    Text as Text,
    Trigger as Trigger,
)
from jobclient.protocol.wire.look import (
    Filter as Filter,
    GetParams as GetParams,
    JobList as JobList,
    JobParams as JobParams,
    JobResult as JobResult,
    ListParams as ListParams,
    Mark as Mark,
    OneJob as OneJob,
    Output as Output,
    OutputMatch as OutputMatch,
    OutputParams as OutputParams,
    ResultResult as ResultResult,
    UntilOutput as UntilOutput,
    Waited as Waited,
    WaitParams as WaitParams,
)
from jobclient.protocol.wire.message import (
    Done as Done,
    Nothing as Nothing,
    Params as Params,
    Result as Result,
)
from jobclient.protocol.wire.session import (
    CancelRequestParams as CancelRequestParams,
    ClientInfo as ClientInfo,
    Initialized as Initialized,
    InitializeParams as InitializeParams,
)
from jobclient.protocol.wire.start import (
    Started as Started,
    StartParams as StartParams,
    StdinSource as StdinSource,
)
from jobclient.protocol.wire.timed import (
    AddParams as AddParams,
    Decision as Decision,
    LogEntries as LogEntries,
    LogParams as LogParams,
    OneSchedule as OneSchedule,
    Paused as Paused,
    PauseParams as PauseParams,
    Runner as Runner,
    RunnerKind as RunnerKind,
    Schedule as Schedule,
    ScheduleParams as ScheduleParams,
    Schedules as Schedules,
    SchedulesParams as SchedulesParams,
    StageParams as StageParams,
    Tick as Tick,
    TickParams as TickParams,
    TimedRemoved as TimedRemoved,
    TimedRemoveParams as TimedRemoveParams,
)
