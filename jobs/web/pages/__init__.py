"""The pages, made on the server: every filter, range, sort and selection stands in the URL."""
