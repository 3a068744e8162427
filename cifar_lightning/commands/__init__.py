"""What comes after training: test's report, predict, export, compare."""
