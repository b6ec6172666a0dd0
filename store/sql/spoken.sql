-- The companion rows of which there still is a row that they supersede.
SELECT r.*
FROM ({replaced}) AS r
SEMI JOIN (
    SELECT {listed}, min(x._v) AS oldest__
    FROM ({rows}) AS x
    SEMI JOIN ({replaced}) AS r ON ({same_key})
    GROUP BY {listed}
) AS x ON ({same_key} AND x.oldest__ < coalesce(r.win_v, r._v))
