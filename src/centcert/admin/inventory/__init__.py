"""What is in a store: every file read, judged and put in order."""
