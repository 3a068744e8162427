"""The command line: options, what is checked before a run begins, what a resumed run may change."""
