-- The rows of a keyed table that no later row of the same key outranks. replaced names only keys that were written again,
-- so this costs next to nothing over rows that never were.
SELECT r.*
FROM ({rows}) AS r
WHERE NOT EXISTS (
    SELECT 1 FROM ({replaced}) AS x WHERE {same_key} AND {outranks}
)
