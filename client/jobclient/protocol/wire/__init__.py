"""What travels: a job as clients see it, and the parameters and result of every method; a file for each group.

Python names are snake_case, wire names camelCase. A member that is null is absent. Unknown members of parameters are
refused, lest a client believe in an option this broker does not have; of results, clients ignore what they do not know.
"""

from jobclient.protocol import PROTOCOL_VERSION as PROTOCOL_VERSION
from jobclient.protocol.wire.broker import (
    BrokerStatus as BrokerStatus,
)
from jobclient.protocol.wire.broker import (
    Limits as Limits,
)
from jobclient.protocol.wire.broker import (
    Ping as Ping,
)
from jobclient.protocol.wire.broker import (
    Places as Places,
)
from jobclient.protocol.wire.broker import (
    ShutdownParams as ShutdownParams,
)
from jobclient.protocol.wire.control import (
    Cancelled as Cancelled,
)
from jobclient.protocol.wire.control import (
    CancelParams as CancelParams,
)
from jobclient.protocol.wire.control import (
    CleanupParams as CleanupParams,
)
from jobclient.protocol.wire.control import (
    Removed as Removed,
)
from jobclient.protocol.wire.control import (
    SignalParams as SignalParams,
)
from jobclient.protocol.wire.events import (
    BrokerShuttingDown as BrokerShuttingDown,
)
from jobclient.protocol.wire.events import (
    JobOutput as JobOutput,
)
from jobclient.protocol.wire.events import (
    JobRemoved as JobRemoved,
)
from jobclient.protocol.wire.events import (
    JobUpdated as JobUpdated,
)
from jobclient.protocol.wire.events import (
    Subscribed as Subscribed,
)
from jobclient.protocol.wire.events import (
    SubscribeParams as SubscribeParams,
)
from jobclient.protocol.wire.job import (
    LIVE as LIVE,
)
from jobclient.protocol.wire.job import (
    MAX_NUMBER as MAX_NUMBER,
)
from jobclient.protocol.wire.job import (
    TERMINAL as TERMINAL,
)
from jobclient.protocol.wire.job import (
    Amount as Amount,
)
from jobclient.protocol.wire.job import (
    Base64 as Base64,
)
from jobclient.protocol.wire.job import (
    Encoding as Encoding,
)
from jobclient.protocol.wire.job import (
    Job as Job,
)
from jobclient.protocol.wire.job import (
    Kind as Kind,
)
from jobclient.protocol.wire.job import (
    OneStream as OneStream,
)
from jobclient.protocol.wire.job import (
    Origin as Origin,
)
from jobclient.protocol.wire.job import (
    Reason as Reason,
)
from jobclient.protocol.wire.job import (
    ResourceLimit as ResourceLimit,
)
from jobclient.protocol.wire.job import (
    ShutdownMode as ShutdownMode,
)
from jobclient.protocol.wire.job import (
    Status as Status,
)
from jobclient.protocol.wire.job import (
    Stream as Stream,
)
from jobclient.protocol.wire.job import (
    StreamName as StreamName,
)
from jobclient.protocol.wire.job import (
    Target as Target,
)
from jobclient.protocol.wire.job import (
    Text as Text,
)
from jobclient.protocol.wire.look import (
    Filter as Filter,
)
from jobclient.protocol.wire.look import (
    GetParams as GetParams,
)
from jobclient.protocol.wire.look import (
    JobList as JobList,
)
from jobclient.protocol.wire.look import (
    JobParams as JobParams,
)
from jobclient.protocol.wire.look import (
    JobResult as JobResult,
)
from jobclient.protocol.wire.look import (
    ListParams as ListParams,
)
from jobclient.protocol.wire.look import (
    Mark as Mark,
)
from jobclient.protocol.wire.look import (
    OneJob as OneJob,
)
from jobclient.protocol.wire.look import (
    Output as Output,
)
from jobclient.protocol.wire.look import (
    OutputParams as OutputParams,
)
from jobclient.protocol.wire.look import (
    ResultResult as ResultResult,
)
from jobclient.protocol.wire.look import (
    Waited as Waited,
)
from jobclient.protocol.wire.look import (
    WaitParams as WaitParams,
)
from jobclient.protocol.wire.message import (
    Done as Done,
)
from jobclient.protocol.wire.message import (
    Nothing as Nothing,
)
from jobclient.protocol.wire.message import (
    Params as Params,
)
from jobclient.protocol.wire.message import (
    Result as Result,
)
from jobclient.protocol.wire.session import (
    CancelRequestParams as CancelRequestParams,
)
from jobclient.protocol.wire.session import (
    ClientInfo as ClientInfo,
)
from jobclient.protocol.wire.session import (
    Initialized as Initialized,
)
from jobclient.protocol.wire.session import (
    InitializeParams as InitializeParams,
)
from jobclient.protocol.wire.start import (
    Started as Started,
)
from jobclient.protocol.wire.start import (
    StartParams as StartParams,
)
