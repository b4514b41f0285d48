-- The tables of Citus on this node, and where the rows lie that this node's stream tells of: its shards, of reference tables on the
-- coordinator alone. A table without any here has no row in this node's record.
SELECT p.logicalrelid::oid::bigint,
       coalesce(array_agg(pg_catalog.shard_name(p.logicalrelid, s.shardid) ORDER BY s.shardid)
                  FILTER (WHERE pl.shardid IS NOT NULL), '{}')
  FROM pg_catalog.pg_dist_partition p
  LEFT JOIN pg_catalog.pg_dist_shard s ON s.logicalrelid = p.logicalrelid
  LEFT JOIN pg_catalog.pg_dist_placement pl
         ON pl.shardid = s.shardid AND pl.shardstate = 1
        AND pl.groupid = (SELECT groupid FROM pg_catalog.pg_dist_local_group)
        AND (pl.groupid = 0 OR NOT (p.partmethod::text = 'n' AND p.repmodel::text = 't'))
 GROUP BY 1
