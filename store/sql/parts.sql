-- How many rows of some segments each asset has in each partition, in the order in which a merge writes them.
SELECT {period} AS period__, {entity} AS entity__, count(*) AS n
FROM ({rows}) AS r
GROUP BY period__, entity__
ORDER BY period__ NULLS FIRST, entity__ NULLS FIRST
