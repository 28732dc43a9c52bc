"""Models that anomalib trained, in every format: make test-anomalib."""
