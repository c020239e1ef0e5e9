"""Records that came from elsewhere: verified, merged, made anonymous, and run again."""
