"""Recovery: rows of the record put back where they belong, and the proof that they are the same rows.

`restore` brings one tenant, several, some tables or everything back as of a moment. A target without the tables gets
roles and structure first, then rows by tenant bucket over several connections, then keys, indexes, foreign keys,
triggers and policies; a target that has the tables gets each tenant in one transaction, while the others go on
writing. Every restore reads back what it wrote and compares counts and checksums with the record before it says
that it is done; foreign keys are checked by our own query, since the server's stay silent meanwhile.
"""

from ballast.recovery.choice import Request
from ballast.recovery.compare import Difference
from ballast.recovery.drill import Order, Outcome, drill
from ballast.recovery.report import Report, TableProof, Tally
from ballast.recovery.restore import Restorer, begun, restore
from ballast.recovery.tally import tally_of_query
from ballast.recovery.watcher import Watcher

__all__ = [
    "Difference",
    "Order",
    "Outcome",
    "Report",
    "Request",
    "Restorer",
    "TableProof",
    "Tally",
    "Watcher",
    "begun",
    "drill",
    "restore",
    "tally_of_query",
]
