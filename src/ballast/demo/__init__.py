"""The demonstration: protect a database, destroy it under load, bring it back, and count what was lost.

`python -m ballast.demo` (or `make demo`) works with real parts only: a PostgreSQL server in a folder of its own, pgbench's
tables (every one has `bid`: branches are the tenants), the commands as a user calls them, client processes that write
down each commit that was acknowledged to them, SIGKILL, and a data folder that is really removed.
"""
