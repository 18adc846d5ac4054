"""PostgreSQL: any number of servers share one database; row locks keep their batches apart."""
