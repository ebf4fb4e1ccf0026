"""What several test modules share: oracles, models, clients, processes, simulated disks."""
