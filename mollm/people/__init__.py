"""The weights of human labels: how they were made, how far people follow shown labels, who agrees with whom."""
