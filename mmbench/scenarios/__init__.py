"""What is present at test time, and the one place where a modality is hidden."""
