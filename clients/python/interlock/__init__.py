"""Report runs to Interlock: the client, its log handler, and the generated stubs."""
