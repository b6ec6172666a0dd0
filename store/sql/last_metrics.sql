-- The last value of each metric of each run: of the largest step, of equal steps the latest, of equal times the last committed.
SELECT run_id, name,
       arg_max(value, (coalesce(step, -9223372036854775808), coalesce(time, TIMESTAMPTZ '1970-01-01 00:00:00+00'), _v)) AS value
FROM metrics__v
GROUP BY run_id, name
