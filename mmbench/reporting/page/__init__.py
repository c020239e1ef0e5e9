"""The page of a report: one HTML file that shows, sorts and explains every score and loads nothing."""
