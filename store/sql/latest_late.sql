-- Whether a run that had no row at a snapshot, and has one with a product later, had metrics before.
SELECT count(*) AS n
FROM ({metrics}) AS m SEMI JOIN (
    SELECT run_id FROM ({told}) WHERE product IS NOT NULL
    EXCEPT SELECT run_id FROM ({runs})
) AS x USING (run_id)
