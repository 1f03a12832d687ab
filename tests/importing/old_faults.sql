-- Faults in one merchant of every 1,000 each; what is written at the end of a line is the rule
-- that repairs or rejects it. First whatever would prevent them is taken away.

ALTER TABLE billing_records DROP CONSTRAINT billing_records_pkey;
DROP INDEX billing_records_merchant_id_key, credit_purchases_platform_charge_id_key,
    credit_purchases_status_idx;
ALTER TABLE credit_purchases DROP CONSTRAINT credit_purchases_pkey;
ALTER TABLE credit_purchases
    ALTER status DROP DEFAULT, ALTER status TYPE TEXT, ALTER amount TYPE TEXT, ALTER id TYPE TEXT,
    ALTER merchant_id TYPE TEXT, ALTER platform DROP NOT NULL, ALTER amount DROP NOT NULL,
    ALTER created_at DROP NOT NULL, ALTER expires_at DROP NOT NULL, ALTER credits DROP NOT NULL;
ALTER TABLE billing_records
    ALTER merchant_id TYPE TEXT, ALTER trial_available DROP NOT NULL,
    ALTER created_at DROP NOT NULL, ALTER updated_at DROP NOT NULL;

CREATE TEMPORARY TABLE numbered AS
    SELECT n, n % 1000 AS fault, md5('merchant ' || n)::uuid::text AS merchant,
        md5('purchase ' || n || ' 1')::uuid::text AS first,
        md5('purchase ' || n || ' 2')::uuid::text AS second
    FROM generate_series(1, (SELECT count(*) FROM billing_records)) AS n WHERE n % 1000 < 60;
CREATE INDEX ON numbered (merchant);
CREATE INDEX ON numbered (first);

UPDATE billing_records AS r SET
    trial_available = CASE fault
        WHEN 1 THEN false  -- trial-flag-without-dates
        WHEN 2 THEN true   -- trial-dates-without-flag
        WHEN 3 THEN false WHEN 4 THEN false WHEN 5 THEN false
        WHEN 6 THEN NULL   -- trial-flag-missing
        ELSE trial_available END,
    trial_started_at = CASE
        WHEN fault IN (1, 4, 6, 47) THEN NULL  -- trial-without-start
        WHEN fault IN (2, 3, 5) THEN created_at ELSE trial_started_at END,
    trial_ends_at = CASE
        WHEN fault IN (1, 3, 6, 47) THEN NULL  -- trial-without-end
        WHEN fault IN (2, 4) THEN created_at + interval '14 days'
        WHEN fault = 5 THEN created_at - interval '1 day'  -- trial-ends-before-start
        ELSE trial_ends_at END,
    last_purchase_at = CASE
        WHEN fault = 10 THEN 'infinity'  -- time-unreadable, last-purchase-behind
        WHEN fault IN (11, 47) THEN NULL  -- last-purchase-behind
        ELSE last_purchase_at END,
    total_credits_purchased = total_credits_purchased + CASE WHEN fault = 12 THEN 7 ELSE 0 END,
    created_at = CASE WHEN fault IN (9, 47) THEN NULL ELSE created_at END,  -- record-without-time
    updated_at = CASE WHEN fault = 47 THEN NULL ELSE updated_at END  -- record-no-time
FROM numbered WHERE r.merchant_id = numbered.merchant;
UPDATE billing_records AS r SET trial_available = true
FROM numbered WHERE r.merchant_id = numbered.merchant AND fault = 47;
DELETE FROM billing_records AS r USING numbered  -- record-missing
WHERE r.merchant_id = numbered.merchant AND fault IN (7, 46);
INSERT INTO billing_records  -- record-twice
SELECT id || 'b', upper(r.merchant_id), true, NULL, NULL, 0, NULL, created_at + interval '1 day',
    updated_at
FROM billing_records AS r JOIN numbered ON r.merchant_id = numbered.merchant WHERE fault = 8;

UPDATE credit_purchases AS p SET
    id = CASE WHEN fault = 40 THEN 'purchase ' || n ELSE id END,  -- purchase-no-uuid
    status = CASE fault
        WHEN 20 THEN ' Completed '  -- status-spelling
        WHEN 44 THEN 'PAID'  -- status-unknown
        ELSE status END,
    platform = CASE fault
        WHEN 21 THEN 'Shopify'  -- platform-spelling
        WHEN 22 THEN 'paypal'  -- platform-unknown
        ELSE platform END,
    platform_charge_id = CASE fault
        WHEN 23 THEN E' \t' || platform_charge_id || ' '  -- charge-spelling
        WHEN 24 THEN repeat('x', 300)  -- charge-unusable
        WHEN 25 THEN 'same ' || n  -- charge-twice
        WHEN 48 THEN 'shared ' || n WHEN 49 THEN 'shared ' || n - 1
        ELSE platform_charge_id END,
    amount = CASE fault
        WHEN 26 THEN '39.990000000000002'  -- amount-rounded
        WHEN 27 THEN NULL  -- amount-missing
        WHEN 43 THEN 'free'  -- amount-unusable
        ELSE amount END,
    credits = CASE WHEN fault = 42 THEN 0 ELSE credits END,  -- credits-unusable
    created_at = CASE WHEN fault IN (28, 46) THEN NULL ELSE created_at END,  -- purchase-without-time
    completed_at = CASE
        WHEN fault IN (30, 46) THEN NULL  -- payment-without-time
        WHEN fault = 31 THEN created_at  -- payment-time-unpaid
        ELSE completed_at END,
    expires_at = CASE WHEN fault IN (29, 46) THEN NULL ELSE expires_at END  -- purchase-without-expiry
FROM numbered WHERE p.id = first;  -- 46: purchase-no-time
UPDATE credit_purchases AS p SET platform_charge_id = 'same ' || n
FROM numbered WHERE p.id = second AND fault = 25;
INSERT INTO credit_purchases  -- purchase-twice, purchase-of-two
SELECT id, p.merchant_id, CASE WHEN fault = 41 THEN 77 ELSE credits END, amount, status, platform,
    platform_charge_id,
    created_at + CASE WHEN fault = 41 THEN interval '1 minute' ELSE interval '0' END,
    completed_at, expires_at
FROM credit_purchases AS p JOIN numbered ON p.id = first WHERE fault IN (32, 41);
DELETE FROM credit_purchases AS p USING numbered
WHERE p.merchant_id = numbered.merchant AND fault = 47;
UPDATE billing_records AS r SET merchant_id = 'shop ' || n  -- merchant-no-uuid
FROM numbered WHERE r.merchant_id = numbered.merchant AND fault = 45;
UPDATE credit_purchases AS p SET merchant_id = 'shop ' || n
FROM numbered WHERE p.merchant_id = numbered.merchant AND fault = 45;
