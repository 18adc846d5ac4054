"""SQLite: one writer and many readers, in write-ahead mode; in memory one connection for all."""
