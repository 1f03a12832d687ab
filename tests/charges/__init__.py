"""A charge is known by its id, whatever shop or merchant a webhook names."""
