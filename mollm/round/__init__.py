"""One round of the loop: fuse the panel, train the classifier, pick the next batch, judge the new version."""
