"""What a method costs: counted work, times and memory, by scenario and by part."""
