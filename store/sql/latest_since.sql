-- What was derived, but for the keys that got a newer row since, and those.
WITH tail AS ({tail})
SELECT {columns}, coalesce(l.open, false) AS open, l._v
FROM ({derived}) AS l ANTI JOIN tail AS x ON ({same_key})
UNION ALL
SELECT {columns}, open, _v FROM tail AS l
