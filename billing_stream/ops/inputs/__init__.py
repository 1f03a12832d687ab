"""`billing-stream inputs`: which inputs are stopped, and what operators decide about them."""
