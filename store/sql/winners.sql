-- Of every key that has a new row beside others, the row that outranks them; win_v NULL is the commit now being made.
SELECT {key}, {rank}, CASE WHEN row__ < 0 THEN _v END AS win_v
FROM revised
QUALIFY count(*) OVER (PARTITION BY {key}) > 1
    AND max(row__) OVER (PARTITION BY {key}) >= 0
    AND row_number() OVER (PARTITION BY {key} ORDER BY {rank} DESC, _v DESC) = 1
