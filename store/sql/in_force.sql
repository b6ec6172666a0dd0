-- The register as it holds now: the newest dated row of each asset whose interval contains the clock's time.
SELECT * FROM ({rows})
WHERE (valid_from IS NULL OR valid_from <= {now}) AND (valid_to IS NULL OR valid_to > {now})
QUALIFY row_number() OVER (PARTITION BY asset_id ORDER BY valid_from DESC NULLS LAST, _v DESC) = 1
