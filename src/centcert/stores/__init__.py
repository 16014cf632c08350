"""Where blobs live: one kind of store a module, all under one contract."""

from centcert.stores.base import MAX_BLOB_BYTES, Blob, Change, Store, StoredFile

__all__ = ["MAX_BLOB_BYTES", "Blob", "Change", "Store", "StoredFile"]
