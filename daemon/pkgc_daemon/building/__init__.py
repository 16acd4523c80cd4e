"""Building: from a source (archive, directory, commit) to a wheel, on the client's side."""
