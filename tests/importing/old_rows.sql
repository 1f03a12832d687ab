-- A database without faults: $1 merchants, 0 to 4 purchases each, one of them with 250.
-- Of every 1,000 the first 60 have two purchases, for the faults to be made in.

CREATE FUNCTION fill(merchants INTEGER) RETURNS VOID LANGUAGE SQL AS $$
    INSERT INTO credit_purchases
    SELECT
        md5('purchase ' || n || ' ' || k)::uuid,
        md5('merchant ' || n)::uuid,
        credits,
        amount,
        status::"PurchaseStatus",
        (ARRAY['shopify', 'shopify', 'stripe', 'custom'])[1 + (n + k) % 4],
        CASE WHEN (n + k) % 7 > 0 OR n % 1000 < 60 THEN 'gid://charge/' || n || '/' || k END,
        made,
        CASE WHEN status = 'COMPLETED' THEN made + interval '90.125 seconds' END,
        made + interval '24 hours'
    FROM generate_series(1, merchants) AS n,
        LATERAL generate_series(
            1, CASE WHEN n = 50 THEN 250 WHEN n % 1000 < 60 THEN 2 ELSE n % 5 END
        ) AS k,
        LATERAL (
            SELECT CASE
                WHEN n % 1000 = 31 AND k = 1 THEN 'FAILED'
                WHEN n % 1000 < 60 THEN 'COMPLETED'
                WHEN n % 10 = 7 AND k = 1 THEN 'PENDING'
                ELSE (ARRAY['COMPLETED', 'COMPLETED', 'FAILED', 'EXPIRED', 'PENDING'])[1 + (n + k) % 5]
            END AS status
        ) AS fate,
        LATERAL (
            SELECT date_trunc('second', now() AT TIME ZONE 'UTC') - CASE
                -- Some can still be paid, hours from now on.
                WHEN n % 10 = 7 AND k = 1 THEN interval '2 hours'
                ELSE interval '30 days' + (n % 300) * interval '1 day' - k * interval '1 hour'
            END AS made
        ) AS clock,
        LATERAL (
            SELECT (ARRAY[100, 500, 1000])[1 + k % 3] AS credits,
                (ARRAY[9.99, 39.99, 69.99])[1 + k % 3] AS amount
        ) AS pack;

    INSERT INTO billing_records
    SELECT
        md5('record ' || n),
        md5('merchant ' || n)::uuid,
        n % 3 = 0,
        CASE WHEN n % 3 > 0 THEN started END,
        CASE WHEN n % 3 > 0 THEN started + interval '14 days' END,
        coalesce(total, 0),
        last,
        date_trunc('second', now() AT TIME ZONE 'UTC') - interval '400 days',
        date_trunc('second', now() AT TIME ZONE 'UTC')
    FROM generate_series(1, merchants) AS n
    LEFT JOIN (
        SELECT merchant_id, sum(credits) AS total, max(completed_at) AS last
        FROM credit_purchases WHERE status = 'COMPLETED' GROUP BY merchant_id
    ) AS paid ON paid.merchant_id = md5('merchant ' || n)::uuid,
        LATERAL (
            -- One trial in three that was used still runs.
            SELECT date_trunc('second', now() AT TIME ZONE 'UTC') - CASE
                WHEN n % 9 = 1 THEN interval '2 days' ELSE interval '40 days'
            END AS started
        ) AS clock;
$$;
