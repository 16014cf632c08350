"""What answers names with credentials."""
