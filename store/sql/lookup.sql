-- Of new rows with one key the last, and whether the store has rows with that key.
SELECT row__, EXISTS (SELECT 1 FROM ({rows}) AS r WHERE {same_key}) AS known
FROM (SELECT * FROM new__rows QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY row__ DESC) = 1) AS x
ORDER BY row__
