"""What a report shows, in words and spelled numbers: plain data that every format of it renders."""
