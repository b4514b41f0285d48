"""The lineage made anew from the vault: every parent's tenant, as the rows at a cut tell it."""

from __future__ import annotations

from collections.abc import Iterable

from ballast.vault.lineage import Families, Lineage, on_leaf, parent_space, tenant_of_line, values_of
from ballast.vault.order import bytes_of
from ballast.vault.read import rows
from ballast.vault.records import SHARED_BUCKET, Cut, Relation, Via
from ballast.vault.vault import Vault


def relearn(vault: Vault, cut: Cut, relations: Iterable[Relation], lineage: Lineage) -> None:
    """Forget what is known, and learn it from the rows at `cut`. GapError, IntegrityError, StoreError."""
    lineage.clear()
    families = Families(relations)
    children = [r for r in families.by_oid.values() if isinstance(r.tenant, Via) and len(r.tenant.columns) > 1]
    wanted = {relation.number: relation for relation in [*families.in_order(), *children]}
    for relation in wanted.values():
        for bucket in (SHARED_BUCKET, *range(vault.index.genesis.buckets)):
            for chunk in rows(vault, cut, bucket=bucket, relations={relation.number}):
                data, offsets = bytes_of(chunk.lines)
                for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
                    learn_line(data[start:end].tobytes(), relation, families, lineage)
    lineage.commit(cut)


def learn_line(line: bytes, relation: Relation, families: Families, lineage: Lineage) -> str | None:
    """Keep whose row this is under every key by which children name it; gives the tenant."""
    tenant = tenant_of_line(line, relation, lineage)
    if isinstance(relation.tenant, Via) and len(relation.tenant.columns) > 1:
        own_key = values_of(line, relation, relation.key) if relation.key else line.removesuffix(b"\n")
        lineage.learn(relation.oid, own_key or b"", tenant)
    for columns in families.parents.get(relation.oid, ()):
        key = values_of(line, relation, on_leaf(relation, columns))
        if key is not None:
            lineage.learn(parent_space(relation.root_oid or relation.oid, columns), key, tenant)
    return tenant
