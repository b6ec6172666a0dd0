-- For every asset, product and valid time the newest forecast issued at or before an instant.
CREATE TEMP MACRO forecast_as_of(t) AS TABLE
SELECT {columns} FROM ({rows})
WHERE issue_time <= t
QUALIFY row_number() OVER (PARTITION BY asset_id, product, valid_time ORDER BY issue_time DESC) = 1
