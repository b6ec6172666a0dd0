-- Of every asset, product, recipe and name the newest metric, asked over all of them. The newest times are found first: a
-- maximum is cheap over any number of rows, and few are left to be put in order.
WITH labelled AS NOT MATERIALIZED (
    SELECT
        m.asset_id, r.product, m.recipe, m.name, m.step, m.time, m.value, m.run_id, m._v, r.run_id IS NULL AS open
    FROM ({metrics}) AS m LEFT JOIN ({runs}) AS r ON m.run_id = r.run_id
),
newest AS (
    SELECT asset_id, product, recipe, name, max(time) AS time, bool_or(open) AS open
    FROM labelled
    GROUP BY asset_id, product, recipe, name
)
SELECT *
FROM (
    SELECT l.* REPLACE (x.open AS open)
    FROM labelled AS l JOIN newest AS x ON ({same_key} AND l.time IS NOT DISTINCT FROM x.time)
)
QUALIFY {newest}
