"""What the benchmarks share: timing, tables, the host, prices, exact answers, speeds of light."""
