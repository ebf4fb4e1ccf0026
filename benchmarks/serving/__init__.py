"""What the benchmark over HTTP is made of: cores, work, servers, load, counting, tables."""
