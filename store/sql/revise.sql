-- New rows beside the old rows of their keys, each with what stands before it in rank order: a row equal to the one before it
-- is no revision. Of new rows with the same key and rank the last counts.
CREATE TEMP TABLE revised AS
WITH old AS (
    SELECT {columns}, _v, CAST(-1 AS BIGINT) AS row__
    FROM ({rows}) AS r
    WHERE EXISTS (SELECT 1 FROM new__rows AS x WHERE {same_key})
),
new AS (
    SELECT {columns}, CAST(9223372036854775807 AS BIGINT) AS _v, row__
    FROM new__rows
    QUALIFY row_number() OVER (PARTITION BY {key}, {rank} ORDER BY row__ DESC) = 1
),
together AS (SELECT * FROM old UNION ALL SELECT * FROM new),
placed AS (
    SELECT *, row_number() OVER in_rank > 1 AND {same_values} AS repeated
    FROM together
    WINDOW in_rank AS (PARTITION BY {key} ORDER BY {rank}, _v)
)
SELECT {key}, {rank}, _v, row__ FROM placed WHERE row__ < 0 OR NOT repeated
