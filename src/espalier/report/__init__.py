"""Pictures and text about runs: reads records, writes PNG files or returns text, never prints."""
