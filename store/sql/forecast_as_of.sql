-- For every asset, product and valid time the newest forecast issued at or before an instant. Of what a person changed and
-- what came after its gate only that counts which had been made by then: it was not what its issue time says.
CREATE TEMP MACRO forecast_as_of(t) AS TABLE
SELECT {columns} FROM ({rows})
QUALIFY row_number() OVER (PARTITION BY asset_id, product, valid_time ORDER BY issue_time DESC) = 1
