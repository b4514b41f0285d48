"""Recovery: rows of the record put back where they belong, and the proof that they are the same rows.

`restore` brings one tenant, several, some tables or everything back as of a moment. A target without the tables gets
roles and structure first, then rows by tenant bucket over several connections, then keys, indexes, foreign keys,
triggers and policies; a target that has the tables gets each tenant in one transaction, while the others go on
writing. Every restore reads back what it wrote and compares counts and checksums with the record before it says
that it is done; foreign keys are checked by our own query, since the server's stay silent meanwhile.

`recover` rebuilds a lost platform on an empty server that is in use from its first seconds: `ensure` (or in SQL
`ballast.ensure_tenant`) returns when one tenant is whole, workers bring back all others meanwhile.

`drill` proves all of it against production itself, on a scratch server. `merge` brings in, after a restore, what tenants
produced elsewhere meanwhile: each item once, through the application's own handler.

All three are done by threads of this process, or by the Dask workers of a `crew`, with the same outcome.
"""

from ballast.recovery.choice import Request
from ballast.recovery.compare import Difference
from ballast.recovery.dask_crew import Crew, crew
from ballast.recovery.drill import DrillOutcome, DrillRequest, drill
from ballast.recovery.ensure import ensure
from ballast.recovery.hands import Hands, Threads
from ballast.recovery.later import Later, Span, later
from ballast.recovery.merge import MergeReport, merge, retry, try_again
from ballast.recovery.merge_items import CannotApply, Handler, Handlers, MergeError, MergeItem, read_items
from ballast.recovery.merge_register import Refusal, refusals, settle
from ballast.recovery.priority import Priority
from ballast.recovery.protecting import Protecting
from ballast.recovery.recover import Recovered, Wish, recover
from ballast.recovery.recover import begun as recovery_begun
from ballast.recovery.redo import again_by, open_for, take_in
from ballast.recovery.report import Report, TableProof, Tally
from ballast.recovery.restore import Restorer, begun, restore
from ballast.recovery.roster import Progress
from ballast.recovery.tally import tally_of_query
from ballast.recovery.watcher import Onlooker, Watcher

__all__ = [
    "CannotApply",
    "Crew",
    "Difference",
    "DrillOutcome",
    "DrillRequest",
    "Handler",
    "Handlers",
    "Hands",
    "Later",
    "MergeError",
    "MergeItem",
    "MergeReport",
    "Onlooker",
    "Priority",
    "Progress",
    "Protecting",
    "Recovered",
    "Refusal",
    "Report",
    "Request",
    "Restorer",
    "Span",
    "TableProof",
    "Tally",
    "Threads",
    "Watcher",
    "Wish",
    "again_by",
    "begun",
    "crew",
    "drill",
    "ensure",
    "later",
    "merge",
    "open_for",
    "read_items",
    "recover",
    "recovery_begun",
    "refusals",
    "restore",
    "retry",
    "settle",
    "take_in",
    "tally_of_query",
    "try_again",
]
