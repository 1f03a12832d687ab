"""What commands of the terminal have in common: help, progress, options, error messages."""
