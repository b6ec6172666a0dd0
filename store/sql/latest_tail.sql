-- What came after a snapshot up to which the newest was derived, as it changes that: the newest row of every key that got
-- another. told are the runs written since, fresh the metrics.
WITH told AS MATERIALIZED (
    SELECT run_id, product FROM ({told}) QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY _v DESC) = 1
),
fresh AS MATERIALIZED (SELECT asset_id, recipe, name, step, time, value, run_id, _v FROM ({fresh})),
older AS MATERIALIZED (
    SELECT r.run_id, r.product
    FROM ({runs}) AS r SEMI JOIN (SELECT run_id FROM fresh ANTI JOIN told USING (run_id)) AS x USING (run_id)
),
labelled AS (
    SELECT
        m.asset_id, r.product, m.recipe, m.name, m.step, m.time, m.value, m.run_id, m._v, r.run_id IS NULL AS open
    FROM fresh AS m LEFT JOIN (SELECT * FROM told UNION ALL SELECT * FROM older) AS r ON m.run_id = r.run_id
),
best AS MATERIALIZED (SELECT * REPLACE (bool_or(open) OVER one_key AS open) FROM labelled
    WINDOW one_key AS (PARTITION BY asset_id, product, recipe, name) QUALIFY {newest}),
beside AS (
    SELECT {columns}, coalesce(l.open, false) AS open, l._v
    FROM ({derived}) AS l SEMI JOIN best AS x ON ({same_key})
)
SELECT * REPLACE (bool_or(open) OVER one_key AS open)
FROM (SELECT {columns}, open, _v FROM best AS l UNION ALL SELECT * FROM beside)
WINDOW one_key AS (PARTITION BY asset_id, product, recipe, name)
QUALIFY {newest}
