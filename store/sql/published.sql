-- What was issued, one row per asset, product, issue and valid time: a person's word before the champion's, that before a
-- fallback's; of equals the one made last. What came after the gate counts only where nothing was there in time.
SELECT * FROM ({rows})
WHERE role IN ('manual', 'champion', 'fallback'){known}
QUALIFY row_number() OVER (
    PARTITION BY asset_id, product, issue_time, valid_time
    ORDER BY
        CASE role WHEN 'manual' THEN 0 WHEN 'champion' THEN 1 ELSE 2 END + CASE WHEN {late} THEN 3 ELSE 0 END,
        created_at DESC NULLS LAST, _v DESC, recipe, version_id
) = 1
