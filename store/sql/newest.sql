-- Of every key the row of the newest vintage, and of equal vintages the last committed.
SELECT * FROM ({rows})
QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {rank} DESC, _v DESC) = 1
