-- grain: one raw column that is not as it was on the delivery date before
-- reads: ops.columns
-- note: types are compared without null and as a set; a column whose values are all null is there
WITH by_day AS (
    SELECT
        dataset,
        ds,
        raw_column,
        bool_or(is_mapped) AS is_mapped,
        coalesce(
            string_agg(DISTINCT raw_type, ', ' ORDER BY raw_type) FILTER (raw_type <> 'null'),
            'null'
        ) AS types,
        sum(n_records)::BIGINT AS n_records
    FROM ops.columns
    GROUP BY dataset, ds, raw_column
),

days AS (
    SELECT
        dataset,
        ds,
        lag(ds) OVER (PARTITION BY dataset ORDER BY ds) AS ds_before
    FROM by_day
    GROUP BY dataset, ds
),

now_there AS (
    SELECT
        by_day.*,
        days.ds_before
    FROM by_day
    INNER JOIN days USING (dataset, ds)
    WHERE days.ds_before IS NOT NULL
),

then_there AS (
    SELECT
        by_day.dataset,
        by_day.raw_column,
        by_day.is_mapped,
        by_day.types,
        by_day.n_records,
        days.ds,
        days.ds_before
    FROM by_day
    INNER JOIN days ON by_day.dataset = days.dataset AND by_day.ds = days.ds_before
),

compared AS (
    SELECT
        coalesce(n.ds, t.ds) AS ds,
        coalesce(n.dataset, t.dataset) AS dataset,
        coalesce(n.raw_column, t.raw_column) AS raw_column,
        CASE
            WHEN t.types IS NULL THEN 'new'
            WHEN n.types IS NULL THEN 'missing'
            WHEN n.types <> t.types AND n.types <> 'null' AND t.types <> 'null' THEN 'changed type'
        END AS change,
        coalesce(n.is_mapped, t.is_mapped) AS is_mapped,
        t.types AS types_before,
        n.types AS types_now,
        coalesce(t.n_records, 0) AS n_before,
        coalesce(n.n_records, 0) AS n_now,
        coalesce(n.ds_before, t.ds_before) AS ds_before
    FROM now_there AS n
    FULL OUTER JOIN then_there AS t
        ON n.dataset = t.dataset AND n.ds = t.ds AND n.raw_column = t.raw_column
)

SELECT * FROM compared
WHERE change IS NOT NULL
ORDER BY ds, dataset, raw_column
