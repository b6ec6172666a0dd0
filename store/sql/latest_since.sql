-- What was derived, but for the keys that got a newer row since, and those.
WITH tail AS ({tail})
SELECT {columns}, false AS by_run, _v
FROM (SELECT * FROM ({derived}) WHERE by_run IS NOT true) AS l
ANTI JOIN (SELECT * FROM tail WHERE NOT by_run) AS x ON ({same_key})
UNION ALL
SELECT {columns}, by_run, _v FROM tail
