-- For every key that was written again up to a snapshot, the commit before which its rows are dead.
SELECT {key}, max(coalesce(win_v, _v)) AS below__
FROM ({replaced})
WHERE _v <= {bound}
GROUP BY {key}
