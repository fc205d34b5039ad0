"""What human labels weigh: how they came about, how far people follow what they see, who agrees with whom."""
