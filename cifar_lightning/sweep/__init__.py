"""Search over recipes: successive halving whose trials are ordinary runs that pause and go on."""
