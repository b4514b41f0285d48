"""Ballast (压舱石): a multi-tenant PostgreSQL platform whose loss is a non-event.

The safety half protects any multi-tenant PostgreSQL application. `vault` records every committed change by tenant,
acknowledged to production only when it is durable. `recovery` puts any tenant, or all of them, back as of any moment,
and proves it. `postgres` speaks to servers and knows no tenant. `cli` is the commands.

A package imports only those below it (cli, recovery, vault, postgres); import-linter holds that in the test run.
`ARCHITECTURE.md` tells where things are and why.
"""

__version__ = "0.1.0"
