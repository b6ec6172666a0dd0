-- Every row of some segments in the order of a merged one: partition by partition, there as the table sorts, NULL first.
SELECT {columns}, _v, {period} AS period__
FROM ({rows}) AS r
WHERE {part}
ORDER BY {order}
