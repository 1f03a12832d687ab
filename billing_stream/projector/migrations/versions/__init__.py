"""One file per version. They name no schema: the search path says which."""
