-- Whether a run that had a row at a snapshot has another product in a later one.
SELECT count(*) AS n
FROM ({runs}) AS r JOIN ({told}) AS t ON r.run_id = t.run_id AND r.product IS DISTINCT FROM t.product
