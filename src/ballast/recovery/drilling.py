"""`python -m ballast.recovery.drilling --config ballast.toml`: one drill, as the recorder holds them now and then.

It says what came of it in the recorder's log. An alarm is raised where production and the restored rows differ, and where
no drill could be held at all; `ballast status` shows both until a later one is well.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import psycopg

from ballast.errors import BallastError
from ballast.recovery.drill import DrillRequest, complaint_of, drill
from ballast.recovery.scratch import ended_by_signals
from ballast.vault import config
from ballast.vault.durable import keep_private
from ballast.vault.logbook import Logbook


def main() -> None:
    """Exit code 0 when everything was equal, 1 otherwise."""
    keep_private()
    parser = argparse.ArgumentParser(prog="python -m ballast.recovery.drilling")
    parser.add_argument("--config", type=Path, required=True)
    settings = config.load(parser.parse_args().config)
    log = Logbook("drill")
    try:
        with ended_by_signals():
            outcome = drill(settings, DrillRequest(tenants=settings.record.drill_tenants or None))
    except (BallastError, psycopg.Error, OSError) as error:
        log.alarm("drill_impossible", reason=error if isinstance(error, BallastError) else complaint_of(error))
        sys.exit(1)
    found = outcome.drilled
    fields = {
        "lsn": found.lsn, "seed": found.seed, "tenants": found.tenants, "rows": found.rows,
        "first_tenant_s": found.first_tenant_s, "all_s": found.all_s, "vault_behind_bytes": found.vault_behind_bytes,
    }  # fmt: skip
    if found.equal:
        log.info("drilled", **fields)
        return
    log.alarm(
        "drill_failed",
        message="what the vault gives back is not what production has",
        differences=found.differences,
        named=list(found.named),
        **fields,
    )
    sys.exit(1)


if __name__ == "__main__":
    main()
