"""A run on disk: folder, configuration, record, provenance, checkpoints, logs."""
