-- Of every asset, product, recipe and name the newest metric, asked over all of them. The newest times are found first: a
-- maximum is cheap over any number of rows, and few are left to be put in order.
WITH labelled AS NOT MATERIALIZED (
    SELECT m.asset_id, r.product, m.recipe, m.name, m.step, m.time, m.value, m.run_id, m._v, {by_run} AS by_run
    FROM ({metrics}) AS m LEFT JOIN ({runs}) AS r ON m.run_id = r.run_id
),
newest AS (
    SELECT asset_id, product, recipe, name, CASE WHEN by_run THEN run_id END AS own, max(time) AS time
    FROM labelled
    GROUP BY ALL
)
SELECT l.*
FROM labelled AS l SEMI JOIN newest AS x ON (
    {same_key} AND CASE WHEN l.by_run THEN l.run_id END IS NOT DISTINCT FROM x.own AND l.time IS NOT DISTINCT FROM x.time
)
QUALIFY {newest}
