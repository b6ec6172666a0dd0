-- What came after a snapshot up to which the newest was derived, as it changes that: the newest row of every key that got
-- another. told are the runs written since; fresh the metrics whose product is to be found, either because they are new or
-- because no row of their run was known.
WITH kept AS (SELECT * REPLACE (coalesce(by_run, false) AS by_run) FROM ({derived})),
told AS MATERIALIZED (
    SELECT run_id, product FROM ({told}) QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY _v DESC) = 1
),
fresh AS MATERIALIZED (
    SELECT asset_id, recipe, name, step, time, value, run_id, _v FROM ({fresh})
    UNION ALL
    SELECT asset_id, recipe, name, step, time, value, run_id, _v FROM kept WHERE by_run
),
older AS MATERIALIZED (
    SELECT r.run_id, r.product
    FROM ({runs}) AS r SEMI JOIN (SELECT run_id FROM fresh ANTI JOIN told USING (run_id)) AS x USING (run_id)
),
labelled AS (
    SELECT m.asset_id, r.product, m.recipe, m.name, m.step, m.time, m.value, m.run_id, m._v, {by_run} AS by_run
    FROM fresh AS m LEFT JOIN (SELECT * FROM told UNION ALL SELECT * FROM older) AS r ON m.run_id = r.run_id
),
best AS MATERIALIZED (SELECT * FROM labelled QUALIFY {newest}),
beside AS (SELECT l.* FROM kept AS l SEMI JOIN best AS x ON ({same_key} AND NOT x.by_run) WHERE NOT l.by_run)
SELECT {columns}, by_run, _v
FROM (SELECT {columns}, by_run, _v FROM best UNION ALL SELECT {columns}, by_run, _v FROM beside)
QUALIFY {newest}
