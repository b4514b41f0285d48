-- How Citus has spread the database, as the coordinator's catalog says it: one JSON document.
SELECT jsonb_build_object(
  'local_group', (SELECT groupid FROM pg_catalog.pg_dist_local_group),
  'nodes', (
    SELECT coalesce(jsonb_agg(jsonb_build_object('id', nodeid, 'group', groupid, 'host', nodename, 'port', nodeport,
                                                 'active', isactive, 'synced', hasmetadata AND metadatasynced)
                              ORDER BY groupid, nodeid), '[]')
      FROM pg_catalog.pg_dist_node WHERE noderole::text = 'primary'),
  'tables', (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
             'name', n.nspname || '.' || c.relname, 'method', p.partmethod::text, 'replication', p.repmodel::text,
             'colocation', p.colocationid,
             'column', CASE WHEN p.partkey IS NOT NULL
                            THEN pg_catalog.column_to_column_name(p.logicalrelid, p.partkey::text) END)
             ORDER BY n.nspname, c.relname), '[]')
      FROM pg_catalog.pg_dist_partition p
      JOIN pg_catalog.pg_class c ON c.oid = p.logicalrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace),
  'placements', (
    SELECT coalesce(jsonb_agg(jsonb_build_object('shard', s.shardid, 'table', n.nspname || '.' || c.relname,
                                                 'group', pl.groupid) ORDER BY s.shardid, pl.groupid), '[]')
      FROM pg_catalog.pg_dist_shard s
      JOIN pg_catalog.pg_dist_placement pl ON pl.shardid = s.shardid AND pl.shardstate = 1
      JOIN pg_catalog.pg_class c ON c.oid = s.logicalrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace)
)
