-- Rows without those that were superseded up to a snapshot: for every later one they are dead.
SELECT r.*
FROM ({rows}) AS r
ANTI JOIN ({dead}) AS x ON ({same_key} AND x.below__ > r._v)
