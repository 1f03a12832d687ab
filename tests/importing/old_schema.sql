-- The tables of the service before this one, as its migration made them.

CREATE TYPE "PurchaseStatus" AS ENUM ('PENDING', 'COMPLETED', 'FAILED', 'EXPIRED');

CREATE TABLE "billing_records" (
    "id" TEXT NOT NULL,
    "merchant_id" UUID NOT NULL,
    "trial_available" BOOLEAN NOT NULL DEFAULT true,
    "trial_started_at" TIMESTAMP(3),
    "trial_ends_at" TIMESTAMP(3),
    "total_credits_purchased" INTEGER NOT NULL DEFAULT 0,
    "last_purchase_at" TIMESTAMP(3),
    "created_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updated_at" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "billing_records_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "credit_purchases" (
    "id" UUID NOT NULL,
    "merchant_id" UUID NOT NULL,
    "credits" INTEGER NOT NULL,
    "amount" DECIMAL(10,2) NOT NULL,
    "status" "PurchaseStatus" NOT NULL DEFAULT 'PENDING',
    "platform" TEXT NOT NULL,
    "platform_charge_id" TEXT,
    "created_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "completed_at" TIMESTAMP(3),
    "expires_at" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "credit_purchases_pkey" PRIMARY KEY ("id")
);

CREATE UNIQUE INDEX "billing_records_merchant_id_key" ON "billing_records"("merchant_id");
CREATE UNIQUE INDEX "credit_purchases_platform_charge_id_key"
    ON "credit_purchases"("platform_charge_id");
CREATE INDEX "credit_purchases_merchant_id_idx" ON "credit_purchases"("merchant_id");
CREATE INDEX "credit_purchases_status_idx" ON "credit_purchases"("status");
