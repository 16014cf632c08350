"""A read-only SMB 3.1.1 client: a core with no I/O and an asyncio shell."""
